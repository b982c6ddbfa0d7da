// The profile in plain words, recipes to start from, and every layer under this machine's two roofs.

function rooflinePlot({ roofline, layers }) {
  const timed = layers.filter(({ gflops, intensity }) => gflops > 0 && intensity > 0);
  const [left, top, width, height] = [44, 8, 330, 200];
  const xs = [...timed.map(({ intensity }) => intensity), roofline.ridge];
  const ys = [...timed.map(({ gflops }) => gflops), roofline.peak];
  const [x0, x1] = [Math.min(...xs) / 2, Math.max(...xs) * 3];
  const [y0, y1] = [Math.min(...ys) / 2, Math.max(...ys) * 1.6];
  const x = (value) => left + (width * Math.log(value / x0)) / Math.log(x1 / x0);
  const y = (value) => top + height * (1 - Math.log(value / y0) / Math.log(y1 / y0));
  const powers = (low, high) => Array.from({ length: 12 }, (_, at) => 10 ** (at - 4)).filter((value) => value >= low && value <= high);
  const start = Math.max(x0, y0 / roofline.bandwidth);
  const most = Math.max(...timed.map(({ share }) => share || 0), 1e-9);
  return svg("svg", { viewBox: `0 0 ${left + width + 8} ${top + height + 34}`, role: "img", "aria-label": "Roofline: operations a second over operations a byte" },
    ...powers(x0, x1).map((value) => svg("text", { x: x(value), y: top + height + 14, "text-anchor": "middle" }, String(value))),
    ...powers(y0, y1).flatMap((value) => [svg("line", { x1: left, x2: left + width, y1: y(value), y2: y(value), class: "wb-grid" }), svg("text", { x: left - 5, y: y(value) + 3, "text-anchor": "end" }, String(value))]),
    svg("path", { class: "wb-roof", d: `M${x(start)} ${y(roofline.bandwidth * start)} L${x(roofline.ridge)} ${y(roofline.peak)} L${left + width} ${y(roofline.peak)}` }),
    ...timed.map(({ name, intensity, gflops, share, ms }) => svg("circle", { class: "wb-spot", cx: x(intensity), cy: y(gflops), r: 3 + 6 * Math.sqrt((share || 0) / most) },
      svg("title", {}, `${name}: ${number(gflops, 1)} GFLOP/s at ${number(intensity, 1)} FLOP a byte, ${number(ms, 4)} ms, ${percent(share || 0)}`))),
    svg("text", { x: left + width, y: top + height + 29, "text-anchor": "end" }, "FLOP a byte"),
    svg("text", { x: left + 4, y: top + 8 }, "GFLOP/s, one thread"));
}

function profilePanel(send) {
  const root = element("div", { class: "wb-profile", tabindex: 0, role: "region", "aria-label": "Profile of the uncompressed model" });
  root.hidden = true;
  let drawn = null;
  const list = (kind, texts) => element("ul", { class: `wb-${kind}` }, ...texts.map((text) => element("li", {}, spaced(text))));
  return {
    root,
    show(found, open) {
      root.hidden = !open || !found.words;
      if (root.hidden || drawn === found) return;
      drawn = found;
      const { words } = found;
      const tries = words.suggestions.map(({ recipe, why }, at) => {
        const apply = button("Apply", { "aria-label": `Apply: ${why}` });
        apply.addEventListener("click", () => send({ do: "apply", suggestion: at }));
        return element("div", { class: "wb-try" }, element("div", {}, element("span", {}, why), element("pre", {}, recipe)), apply);
      });
      root.replaceChildren(
        element("div", {}, element("h3", {}, "What dominates"), list("dominates", words.dominates), element("h3", {}, "What would help"), list("helps", words.helps), element("h3", {}, "What would not"), list("hinders", words.does_not)),
        element("div", {}, element("h3", {}, "Roofline"), rooflinePlot(found)),
        element("div", {}, element("h3", {}, "To start from"), ...tries));
    },
  };
}
