// The tables beside the map: the layers as each metric ranks them, and the pairs that do not add up.

const TOLD = {
  ranking: "From the most sensitive layer down; place by its mean loss, with 95 % interval. A cell is a metric's rank of the layer, the darker, the further from the measured one.",
  pairs: "What two layers compressed together lose beyond what each loses alone, in points: above zero the pair is worse than its sum, below zero one hides the other's damage. The diagonal is each layer's own loss. Grey: within its 95 % interval of zero.",
};

function tableStage(model) {
  const ask = button("Compare metrics", { class: "wb-button" });
  const said = element("p", { class: "wb-muted wb-asked", role: "status" });
  const about = element("p", { class: "wb-muted" });
  const holder = element("div", { class: "wb-scroll", tabindex: "0", role: "region" });
  const root = element("div", { class: "wb-tables" }, element("div", { class: "wb-asking" }, ask, said), holder, about);
  let form = "ranking";
  ask.addEventListener("click", () => model.send({ do: model.get("asked").state === "running" ? "leave" : form === "pairs" ? "pair" : "compare" }));
  return {
    root,
    show(shown, data) {
      form = shown;
      root.hidden = shown !== "ranking" && shown !== "pairs";
      if (root.hidden) return;
      const { state, share, error } = model.get("asked");
      const running = state === "running";
      const chosen = data.selected.size;
      setText(ask, running ? "Stop" : shown === "pairs" ? "Measure the selected layers in pairs" : "Compare metrics that need no sweep");
      ask.disabled = !running && (shown === "pairs" ? chosen < 2 : !data.about.total);
      setText(said, error || (running ? `${number(100 * share, 0)} %` : shown === "pairs" ? (chosen < 2 ? "Select two layers or more, in the layer table or with Ctrl in the map." : `${chosen} layers, ${plural((chosen * (chosen - 1)) / 2, "pair")}.`) : data.about.total ? "" : "Start a sweep first: the metrics are compared with it."));
      setText(about, TOLD[shown] + (shown === "ranking" ? orderTold(data) : ""));
      holder.setAttribute("aria-label", shown === "pairs" ? "Pairs of layers" : "Ranking of the layers");
      const table = shown === "pairs" ? pairsTable(model.get("pairs"), data) : rankingTable(model.get("ranking"), data);
      holder.replaceChildren(...(table ? [table] : []));
    },
  };
}

function orderTold({ about }) {
  if (about.order == null) return "";
  return about.order === 1 ? " Every image was run, so the order is exact." : ` The order's rank correlation with the one on every image: ${number(about.order, 2)} or more, nine times out of ten.`;
}

function placeSpan([place, low, high]) {
  return low < high ? `${place} (${low}–${high})` : String(place);
}

function rankingTable({ rows, drop, metrics }, data) {
  if (!rows) return null;
  const count = rows.length;
  const places = data.about.places;
  const head = element("tr", {}, element("th", { scope: "col" }, "layer"), ...(places ? [element("th", { scope: "col" }, "place")] : []),
    element("th", { scope: "col", class: "wb-measured" }, "points lost"),
    ...metrics.map(({ label, problem }) => element("th", { scope: "col", title: problem || "", class: problem ? "wb-none" : "" }, element("span", {}, label))));
  const line = (name, text) => element("tr", { class: "wb-told" }, element("th", { scope: "row" }, name), ...(places ? [element("td", {}, "")] : []), element("td", {}, ""), ...metrics.map((metric) => element("td", {}, text(metric))));
  const told = [
    line("Spearman", ({ spearman }) => (spearman == null ? "–" : number(spearman, 2).replace("-", "−"))),
    line("cost", ({ of_runs: ofRuns, seconds }) => (ofRuns ? "sweep" : seconds == null ? "–" : `${number(seconds, 1)} s`)),
    line("needs labels", ({ label_free: free }) => (free ? "no" : "yes")),
  ];
  const body = rows.map((row, place) => element("tr", { class: data.selected.has(row) ? "wb-chosen" : "" }, element("th", { scope: "row" }, data.layers[row]),
    ...(places ? [element("td", { class: "wb-place" }, placeSpan(places[row]))] : []),
    element("td", { class: "wb-measured" }, number(drop[row], 1).replace("-", "−")),
    ...metrics.map(({ ranks }) => {
      const rank = ranks[row];
      if (rank == null) return element("td", {}, "–");
      const off = Math.abs(rank - 1 - place) / Math.max(1, count - 1);
      return element("td", { style: `--wb-off: ${Math.round(100 * off)}%` }, String(rank));
    })));
  return element("table", { class: "wb-ranks" }, element("thead", {}, head, ...told), element("tbody", {}, ...body));
}

function pairsTable({ layers, level, value, half, technique }, data) {
  if (!layers || technique !== data.dial.name) return null;
  const names = layers.map((place) => data.layers[place]);
  const most = Math.max(1, ...value.flatMap((row, i) => row.map((points, j) => (i === j || points == null ? 0 : Math.abs(points)))));
  const head = element("tr", {}, element("th", { scope: "col" }, `at ${data.levelText(level)}`), ...names.map((name) => element("th", { scope: "col" }, element("span", {}, name))));
  const body = names.map((name, i) => element("tr", {}, element("th", { scope: "row" }, name), ...names.map((other, j) => {
    const points = value[i][j];
    if (points == null) return element("td", {}, "…");
    const within = i !== j && Math.abs(points) <= half[i][j];
    const kind = i === j ? "wb-own" : within ? "wb-within" : points > 0 ? "wb-worse" : "wb-hides";
    const words = i === j ? `${name} alone loses ${number(points, 1)} points` : `${name} and ${other}: ${number(points, 1)} points beyond the sum, ± ${number(half[i][j], 1)}`;
    return element("td", { class: kind, title: words, style: i === j ? "" : `--wb-off: ${Math.round((100 * Math.abs(points)) / most)}%` }, number(points, 1).replace("-", "−"));
  })));
  return element("table", { class: "wb-ranks wb-pairs" }, element("thead", {}, head), element("tbody", {}, ...body));
}
