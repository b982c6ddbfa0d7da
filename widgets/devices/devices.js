// All described devices under the present setting: ratios first, milliseconds second, and why nothing is gained.

function render({ model, el }) {
  el.classList.add("wb");
  const shown = element("p", { class: "wb-muted" });
  const table = element("div", { class: "wb-scroll", tabindex: 0, role: "region", "aria-label": "Devices" });
  const device = choice([]);
  const what = choice([["dense", "the dense model"], ["present", "the present setting"]]);
  const ms = numberField("", { min: 0, step: "any", "aria-label": "Milliseconds of an image", placeholder: "ms" });
  const add = element("button", { type: "submit", class: "wb-button" }, "Add measurement");
  const form = element("form", { class: "wb-measured" }, pick("I measured", what), pick("on", device), ms, "ms", add);
  const list = element("ul", { "aria-label": "Your measurements" });
  const problem = element("p", { class: "wb-problem", role: "alert" });
  const note = element("p", { class: "wb-note" }, "Predicted from data sheets, published measurements and yours; 90 % intervals. The ratio is to the dense model on the same device and is surer than the milliseconds. Your own measurement corrects a device for the runtime you use there, until this model is closed.");
  el.replaceChildren(element("div", { class: "wb-study wb-devices wb-card" },
    element("div", { class: "wb-head" }, element("h2", {}, "Devices"), shown), problem, table, form, list, note));
  form.addEventListener("submit", (event) => {
    event.preventDefault();
    model.send({ do: "measured", device: device.value, what: what.value, ms: ms.value });
    ms.value = "";
  });

  const times = (value) => `${number(value, value < 10 ? 2 : 0)}×`;
  const about = (value) => (value < 10 ? number(value, value < 1 ? 3 : 2) : number(value, value < 100 ? 1 : 0));
  function reach([value, low, high], [least, most]) {
    const at = (one) => `${(100 * Math.log(Math.min(most, Math.max(least, one)) / least)) / Math.log(most / least)}%`;
    const width = (100 * Math.log(Math.min(most, high) / Math.max(least, low))) / Math.log(most / least);
    return element("span", { class: "wb-reach", role: "img", "aria-label": `${times(value)}, ${times(low)} to ${times(high)}` },
      element("u", { style: `left:${at(1)}` }), element("i", { style: `left:${at(low)};width:${width}%` }), element("b", { style: `left:${at(value)}` }));
  }
  function update() {
    const [rows, anchors] = [model.get("rows"), model.get("anchors")];
    setText(problem, model.get("problem"));
    setText(shown, rows.length ? `What would each make of: ${model.get("shown")}?` : "Waits until every image was run.");
    form.hidden = table.hidden = !rows.length;
    if (device.options.length !== rows.length) {
      device.replaceChildren(...choice(rows.map((row) => [row.device, row.title])).children);
      device.selectedIndex = 0;
    }
    const range = [Math.min(0.1, ...rows.map((row) => row.ratio[1])), Math.max(2, ...rows.map((row) => row.ratio[2]))];
    table.replaceChildren(tableOf("Devices", ["Device", "Time ÷ dense", "Ratio", "An image", "Energy"], rows.map((row) => [
      element("span", {}, row.title, element("small", {}, spaced(row.reason) || `${row.runtime}; ${row.anchors ? plural(row.anchors, "measurement") : "nothing measured there: wide intervals"}`), row.caution ? element("small", {}, row.caution) : ""),
      reach(row.ratio, range),
      element("span", {}, times(row.ratio[0]), element("small", {}, row.ratio[1] < row.ratio[2] ? `${times(row.ratio[1])} to ${times(row.ratio[2])}` : "the same")),
      element("span", {}, `${about(row.ms[0])} ms`, element("small", {}, `${about(row.ms[1])} to ${about(row.ms[2])}`)),
      row.mj ? element("span", {}, `${about(row.mj[0])} mJ`, element("small", {}, `${about(row.mj[1])} to ${about(row.mj[2])}`)) : "–",
    ])));
    list.replaceChildren(...anchors.map((one, at) => {
      const remove = element("button", { type: "button", "aria-label": `Forget ${one.ms} ms on ${one.title}` }, "×");
      remove.addEventListener("click", () => model.send({ do: "forget", anchor: at }));
      return element("li", {}, `${one.title}: ${one.what}, ${one.ms} ms`, remove);
    }));
  }
  const traits = onTraits(model, ["rows", "shown", "anchors", "problem"], update, { frame: true });
  const unseen = reportVisibility(model, el);
  update();
  return () => { traits.end(); unseen(); };
}

export default { render };
