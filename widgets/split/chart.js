// A bar for each cut, stacked: time on the device, on the link and on the server. Bars are buttons for the mouse;
// the slider below moves over the same cuts for the keyboard.

const SPENT = [["device_ms", "device"], ["network_ms", "network"], ["server_ms", "server"]];

function cutChart(choose) {
  const root = element("div", { class: "wb-cuts" });
  const HEIGHT = 112;
  function draw(plan, chosen) {
    const width = Math.max(220, root.clientWidth || 600);
    const [left, top] = [46, 16];
    const step = (width - left) / plan.cuts.length;
    const most = Math.max(...plan.cuts.map((cut) => cut.total_ms));
    const y = (ms) => top + HEIGHT * (1 - ms / most);
    const unit = 10 ** Math.floor(Math.log10(most));
    const gap = [0.2, 0.25, 0.5, 1, 2.5, 5].map((share) => share * unit).find((value) => most / value <= 4) ?? unit;
    const ticks = Array.from({ length: Math.floor(most / gap) + 1 }, (_, at) => at * gap);
    const bars = plan.cuts.map((cut, at) => {
      let floor = 0;
      const [x, wide] = [left + step * at + Math.min(6, step * 0.15), Math.max(2, step - 2 * Math.min(6, step * 0.15))];
      const parts = SPENT.map(([name, part]) => {
        const low = floor;
        floor += cut[name];
        return svg("rect", { class: `wb-${part}`, x, width: wide, y: y(floor), height: Math.max(0, y(low) - y(floor)) });
      });
      const bar = svg("g", { class: `wb-cut${at === chosen ? " wb-chosen" : ""}` }, svg("rect", { class: "wb-hit", x: left + step * at, y: top, width: step, height: HEIGHT + 4 }), ...parts,
        svg("title", {}, `${cut.name}: ${rounded(cut.total_ms)} ms`));
      if (cut.name === plan.best) bar.append(svg("text", { class: "wb-best", x: Math.min(width - 26, Math.max(left + 26, x + wide / 2)), y: y(floor) - 4, "text-anchor": "middle" }, "quickest"));
      bar.addEventListener("click", () => choose(at));
      return bar;
    });
    root.replaceChildren(svg("svg", { width, height: top + HEIGHT + 6, role: "img", "aria-label": `Time of an image for each of ${plan.cuts.length} cuts; the quickest is ${plan.best}` },
      ...ticks.flatMap((ms) => [svg("line", { class: "wb-grid", x1: left, x2: width, y1: y(ms), y2: y(ms) }), svg("text", { x: left - 6, y: y(ms) + 3.5, "text-anchor": "end" }, ms ? `${number(ms, gap < 1 ? 1 : 0)} ms` : "0")]),
      ...bars));
  }
  return { root, draw };
}
