// The graph before at the left, the kernels after at the right, each beside the operators that went into it.
// Nodes stand one below the other in the order they run; what skips over others is an arc.

function fusionGraphs({ before, after }) {
  const [row, gap, wide, left, middle] = [19, 5, 150, 46, 44];
  const right = left + wide + middle;
  const placed = new Map();
  const parts = [];
  const kernelAt = [];
  let y = 4;
  const label = (x, top, width, height, text) => svg("text", { x: x + 8, y: top + height / 2 + 3.5 }, text.length > 24 ? `${text.slice(0, 23)}…` : text, svg("title", {}, text));
  const put = (place) => {
    placed.set(place, y + row / 2);
    y += row;
    return y - row;
  };
  const held = new Set(after.flatMap(([, , holds]) => holds));
  const gone = before.map((_, place) => place).filter((place) => !held.has(place));
  after.forEach(([op, , holds], at) => {
    // what no kernel holds stands where it was in the graph
    while (gone.length && holds.length && gone[0] < Math.min(...holds)) {
      const place = gone.shift();
      const top = put(place);
      parts.push(svg("rect", { class: "wb-gone", x: left, y: top + 1, width: wide, height: row - 2, rx: 4 }), label(left, top, wide, row, before[place][0]));
      y += gap;
    }
    const top = y;
    for (const place of holds) {
      const own = put(place);
      parts.push(svg("rect", { class: "wb-op", x: left, y: own + 1, width: wide, height: row - 2, rx: 4 }), label(left, own, wide, row, before[place][0]));
    }
    if (!holds.length) y += row;
    const height = y - top;
    if (holds.length) parts.push(svg("path", { class: "wb-into", d: `M${left + wide} ${top + 1} L${right} ${top + 1} V${y - 1} H${left + wide} Z` }));
    parts.push(svg("rect", { class: "wb-kernel", x: right, y: top + 1, width: wide, height: height - 2, rx: 4 }), label(right, top, wide, height, op));
    kernelAt[at] = top + height / 2;
    y += gap;
  });
  for (const place of gone) {
    const top = put(place);
    parts.push(svg("rect", { class: "wb-gone", x: left, y: top + 1, width: wide, height: row - 2, rx: 4 }), label(left, top, wide, row, before[place][0]));
  }
  const arc = (x, from, to, side) => svg("path", { class: "wb-skip", d: `M${x} ${from} C${x + side * 34} ${from} ${x + side * 34} ${to} ${x} ${to}` });
  const skips = [
    ...before.flatMap(([, inputs], place) => inputs.filter((source) => Math.abs(place - source) > 1 && placed.has(source)).map((source) => arc(left, placed.get(source), placed.get(place), -1))),
    ...after.flatMap(([, inputs], place) => inputs.filter((source) => place - source > 1).map((source) => arc(right + wide, kernelAt[source], kernelAt[place], 1))),
  ];
  return svg("svg", { width: right + wide + 46, height: y + 4, role: "img", "aria-label": `${plural(before.length, "operator")} become ${plural(after.length, "kernel")}` }, ...skips, ...parts);
}
