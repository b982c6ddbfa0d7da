// How far each layer's outputs drift, in call order, and the first layer where they go wrong.

const WRONG_DB = 10;
const MOST_DB = 60;

function driftPart(model) {
  const sentence = element("p", { class: "wb-verdict" });
  const body = element("tbody");
  const table = element("table", { class: "wb-table wb-drifts" }, element("caption", { class: "wb-hidden" }, "Drift of each layer's outputs"),
    element("thead", {}, element("tr", {}, ...["Layer", "Signal over error", "SQNR", "its own", "cosine", "CKA"].map((title) => element("th", { scope: "col" }, title)))), body);
  const note = element("p", { class: "wb-muted wb-note" });
  const root = element("div", { class: "wb-part wb-drift" }, sentence, element("div", { class: "wb-scroll", tabindex: 0, role: "region", "aria-label": "Layers" }, table), note);
  const decibels = (value) => (value == null ? "–" : value >= 120 ? "same" : `${number(value, 1).replace("-", "−")} dB`);
  const share = (value) => (value == null ? "–" : number(value, 3));
  return {
    root,
    show(data) {
      setText(sentence, spaced(data.sentence));
      sentence.classList.toggle("wb-hurting", data.first != null);
      const from = data.rows.findIndex(({ name }) => name === data.first);
      body.replaceChildren(...data.rows.map((row, place) => {
        const wrong = from >= 0 && place >= from && row.sqnr != null && row.sqnr < WRONG_DB;
        const width = Math.max(0, Math.min(1, (row.sqnr ?? 0) / MOST_DB)) * 100;
        return element("tr", { "data-layer": row.name, class: place === from ? "wb-first" : wrong ? "wb-wrong" : "" },
          element("th", { scope: "row" }, row.name, place === from ? element("span", { class: "wb-tag" }, "first wrong") : ""),
          element("td", {}, element("span", { class: "wb-meter", "aria-hidden": "true" }, element("i", { style: `width:${width}%` }), element("u", { style: `left:${(100 * WRONG_DB) / MOST_DB}%` }))),
          element("td", {}, decibels(row.sqnr)), element("td", {}, decibels(row.own)), element("td", {}, share(row.cosine)), element("td", {}, share(row.cka)));
      }));
      setText(note, `On ${count(data.n)} ${model.get("course").split ?? ""} images. The tick is 10 dB, an error of a third in amplitude; “its own” hands the layer the dense input, the rest holds what came before it too.`.replace("  ", " "));
    },
  };
}
