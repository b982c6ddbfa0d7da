// How both settings stand noise, blur, less contrast and JPEG, in three strengths, on the same images.

const CORRUPTIONS = { noise: "Noise", blur: "Blur", contrast: "Less contrast", jpeg: "JPEG" };

const STRENGTHS = 3;

// What is said where none that was run costs more: it may have been stopped, or go on.
function harmless(rows) {
  const run = rows.filter(({ strength }) => strength).length;
  if (run === STRENGTHS * Object.keys(CORRUPTIONS).length) return "no corruption costs clearly more than that";
  return run ? `none of the ${run} corruptions run so far costs clearly more than that` : "no corruption was run yet";
}

function corruptionsPart() {
  const plots = element("div", { class: "wb-plots" });
  const sentence = element("p", { class: "wb-verdict" });
  const root = element("div", { class: "wb-part wb-corruptions" }, sentence, plots);
  const [left, top, width, height] = [34, 8, 150, 120];
  const x = (strength) => left + 8 + (strength / STRENGTHS) * (width - 16);

  function panel(rows, title, floor) {
    const y = (share) => top + height * (1 - (Math.max(share, floor) - floor) / (1 - floor));
    const ticks = [floor, (1 + floor) / 2, 1];
    const line = (when) => [
      svg("path", { class: `wb-${when}`, d: rows.map((row, at) => `${at ? "L" : "M"}${x(row.strength)} ${y(row[when][0])}`).join("") }),
      ...rows.map((row) => svg("g", { class: `wb-${when}` },
        svg("line", { x1: x(row.strength), x2: x(row.strength), y1: y(row[when][1]), y2: y(row[when][2]) }),
        svg("circle", { cx: x(row.strength), cy: y(row[when][0]), r: 3 }, svg("title", {}, `${row.strength ? `strength ${row.strength}` : "clean"}, ${when}: ${percent(row[when][0])} (${percent(row[when][1])} to ${percent(row[when][2])}); change ${inPoints(row.change[0])} (${inPoints(row.change[1])} to ${inPoints(row.change[2])})`)))),
    ];
    const last = rows[rows.length - 1];
    return element("figure", {}, element("h3", {}, title),
      svg("svg", { viewBox: `0 0 ${left + width + 6} ${top + height + 20}`, role: "img", "aria-label": `${title}: accuracy over strength` },
        ...ticks.flatMap((share) => [svg("line", { x1: left, x2: left + width, y1: y(share), y2: y(share), class: "wb-grid" }), svg("text", { x: left - 5, y: y(share) + 3.5, "text-anchor": "end" }, number(share * 100, 0))]),
        ...[0, 1, 2, 3].map((strength) => svg("text", { x: x(strength), y: top + height + 15, "text-anchor": "middle" }, strength ? String(strength) : "clean")),
        ...line("before"), ...line("after")),
      element("figcaption", {}, `at strength ${last.strength}: ${inPoints(last.change[0])} points (${inPoints(last.change[1])} to ${inPoints(last.change[2])})`));
  }
  return {
    root,
    show({ rows }) {
      const clean = rows.find(({ corruption }) => corruption === "clean");
      const lowest = Math.min(...rows.flatMap((row) => [row.before[1], row.after[1]]));
      const floor = [0.8, 0.6, 0.4, 0.2, 0].find((edge) => edge <= lowest) ?? 0;
      const panels = Object.entries(CORRUPTIONS).map(([name, title]) => [title, rows.filter(({ corruption }) => corruption === name)]).filter(([, own]) => own.length);
      plots.replaceChildren(...panels.map(([title, own]) => panel([clean, ...own], title, floor)));
      const worse = rows.filter((row) => row.strength && row.change[2] < clean.change[1]);
      setText(sentence, !clean ? "" : worse.length ? `More fragile than clean images tell: ${worse.map((row) => `${CORRUPTIONS[row.corruption].toLowerCase()} ${row.strength}`).join(", ")}.`
        : `On clean images ${inPoints(clean.change[0])} points (${inPoints(clean.change[1])} to ${inPoints(clean.change[2])}), ${count(clean.before[3])} images; ${harmless(rows)}.`);
      sentence.classList.toggle("wb-hurting", worse.length > 0);
    },
  };
}
