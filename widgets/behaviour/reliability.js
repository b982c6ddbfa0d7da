// Whether the model is as sure as it is right: accuracy over confidence, and the expected calibration error.

function reliabilityPart() {
  const plot = svg("svg", { viewBox: "0 0 320 300", role: "img", "aria-label": "Reliability diagram: accuracy over confidence" });
  const facts = element("div", { class: "wb-facts" });
  const root = element("div", { class: "wb-part wb-reliability" }, element("div", { class: "wb-split" }, element("div", { class: "wb-figure" }, plot), facts));
  const [left, top, side] = [40, 10, 250];
  const x = (share) => left + share * side;
  const y = (share) => top + (1 - share) * side;

  function frame() {
    const ticks = [0, 0.25, 0.5, 0.75, 1];
    return [
      ...ticks.flatMap((share) => [
        svg("line", { x1: x(0), x2: x(1), y1: y(share), y2: y(share), class: "wb-grid" }),
        svg("text", { x: left - 6, y: y(share) + 3.5, "text-anchor": "end" }, `${share * 100}`),
        svg("text", { x: x(share), y: top + side + 14, "text-anchor": "middle" }, `${share * 100}`),
      ]),
      svg("line", { x1: x(0), y1: y(0), x2: x(1), y2: y(1), class: "wb-ideal" }),
      svg("text", { x: x(0.5), y: top + side + 29, "text-anchor": "middle" }, "confidence, %"),
      svg("text", { x: 10, y: y(0.5), "text-anchor": "middle", transform: `rotate(-90 10 ${y(0.5)})` }, "accuracy, %"),
    ];
  }
  const FEW = 20; // images below which a point is drawn faint, and no line through it
  function curve({ bins }, name) {
    const many = bins.filter(([, , , , n]) => n >= FEW);
    const most = Math.max(...bins.map(([, , , , n]) => n));
    return [
      svg("path", { class: `wb-${name}`, d: many.map(([sure, right], at) => `${at ? "L" : "M"}${x(sure)} ${y(right)}`).join("") }),
      ...bins.map(([sure, right, low, high, n]) => svg("g", { class: `wb-${name}${n < FEW ? " wb-thin" : ""}` },
        svg("line", { x1: x(sure), x2: x(sure), y1: y(low), y2: y(high) }),
        svg("circle", { cx: x(sure), cy: y(right), r: 2 + 4 * Math.sqrt(n / most) }, svg("title", {}, `${count(n)} images, mean confidence ${percent(sure)}: ${percent(right)} right (${percent(low)} to ${percent(high)})`)))),
    ];
  }
  return {
    root,
    show({ before, after }) {
      plot.replaceChildren(...frame(), ...curve(before, "before"), ...curve(after, "after"));
      const over = ({ over: value }) => (Math.abs(value) < 0.0005 ? "as sure as it is right" : `${number(Math.abs(value) * 100, 1)} points ${value > 0 ? "surer than right" : "less sure than right"}`);
      facts.replaceChildren(
        element("p", {}, "A point is the images of one range of confidence; the diagonal is a model that is as sure as it is right. Below it the model is too sure."),
        element("dl", {}, element("dt", {}, "Expected calibration error"),
          element("dd", {}, element("i", { class: "wb-key wb-before" }), `before ${percent(before.error, 2)}`), element("dd", {}, element("i", { class: "wb-key wb-after" }), `after ${percent(after.error, 2)}`),
          element("dt", {}, "On the whole"), element("dd", {}, element("i", { class: "wb-key wb-before" }), over(before)), element("dd", {}, element("i", { class: "wb-key wb-after" }), over(after))));
    },
  };
}
