// Accuracy class by class, before and after, with 95 % intervals; the classes hurt beyond chance come first.

const inPoints = (share, digits = 1) => (Math.abs(share) < 5e-4 ? "0.0" : `${share < 0 ? "−" : "+"}${number(Math.abs(share) * 100, digits)}`);
const SORTS = { harm: "hurt first", name: "in the data's order", accuracy: "least accurate first" };

function classesPart() {
  const sentence = element("p", { class: "wb-verdict" });
  const id = uniqueId("sort");
  const sort = element("select", { id }, ...Object.entries(SORTS).map(([value, text]) => element("option", { value }, text)));
  const body = element("tbody");
  const head = element("thead", {}, element("tr", {}, ...["Class", "Accuracy", "before", "after", "Change (95 %)", "lost", "won", "p"].map((title) => element("th", { scope: "col" }, title))));
  const table = element("table", { class: "wb-table" }, element("caption", { class: "wb-hidden" }, "Accuracy of each class before and after"), head, body);
  const root = element("div", { class: "wb-part wb-classes" }, element("div", { class: "wb-part-head" }, sentence, element("span", { class: "wb-pick" }, element("label", { for: id }, "Sort"), sort)), element("div", { class: "wb-scroll", tabindex: 0, role: "region", "aria-label": "Classes" }, table));
  let found = null;

  function bar(row, floor) {
    const at = (share) => `${Math.max(0, (100 * (share - floor)) / (1 - floor))}%`;
    const width = (low, high) => `${(100 * (high - Math.max(low, floor))) / (1 - floor)}%`;
    return element("span", { class: "wb-twin", "aria-hidden": "true" }, ...["before", "after"].map((when) => {
      const [value, low, high] = row[when];
      return element("span", { class: `wb-line wb-${when}` }, element("i", { class: "wb-range", style: `left:${at(low)};width:${width(low, high)}` }), element("i", { class: "wb-dot", style: `left:${at(value)}` }));
    }));
  }
  function draw() {
    if (!found) return;
    const lowest = Math.min(...found.rows.flatMap((row) => [row.before[1], row.after[1]]));
    const floor = [0.9, 0.8, 0.6, 0.4, 0.2, 0].find((edge) => edge <= lowest) ?? 0;
    const rows = found.rows.map((row, place) => ({ ...row, place }));
    if (sort.value === "harm") rows.sort((a, b) => b.hurt - a.hurt || a.change[0] - b.change[0]);
    else if (sort.value === "accuracy") rows.sort((a, b) => a.after[0] - b.after[0]);
    body.replaceChildren(...rows.map((row) => element("tr", { class: row.hurt ? "wb-hurt" : "", "data-class": row.name, "data-hurt": row.hurt ? "true" : "false" },
      element("th", { scope: "row" }, row.hurt ? element("b", {}, "▼ ", row.name, element("span", { class: "wb-tag" }, "hurt")) : row.name),
      element("td", {}, bar(row, floor)),
      element("td", {}, percent(row.before[0])), element("td", {}, percent(row.after[0])),
      element("td", { class: "wb-change" }, element("b", {}, inPoints(row.change[0])), element("span", {}, ` (${inPoints(row.change[1])} to ${inPoints(row.change[2])})`)),
      element("td", {}, count(row.lost)), element("td", {}, count(row.won)), element("td", {}, row.p < 0.001 ? "<0.001" : number(row.p, 3)))));
    head.querySelectorAll("th")[1].textContent = `${number(floor * 100, 0)} to 100 %`;
  }
  sort.addEventListener("change", draw);
  return {
    root,
    show(data) {
      found = data;
      const hurt = data.rows.filter((row) => row.hurt).length; // which, the table tells
      const overall = `; all images together changed by ${inPoints(data.overall[0])} points`;
      setText(sentence, hurt ? `${hurt} of ${data.rows.length} classes ${hurt === 1 ? "is" : "are"} hurt beyond chance${overall}.` : spaced(data.sentence));
      sentence.classList.toggle("wb-hurting", hurt > 0);
      draw();
    },
  };
}
