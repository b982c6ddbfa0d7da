// Figures that were found before their recipe was asked for come with the move itself, from the controls. Each stands
// until the kernel tells one that is not of a move before: that of the same recipe, or of one that was set elsewhere.

// Milliseconds in which the kernel may still tell of a move before the last, and after which a figure that it has not
// confirmed is no longer shown.
const LATE = 700;
const UNANSWERED = 2500;

function expectations(model, metrics, draw) {
  const expected = {};
  const passed = new Map();
  const exact = new Map(); // recipe → the accuracy of every image, where the kernel has told it: better than the first look
  let asked = "";
  let unanswered = 0;
  const forget = () => { for (const metric of metrics) delete expected[metric]; };
  // A recipe is called the same for every model and data set: what is known of it is of one session.
  let session = model.get("context").session;
  const leave = () => {
    if (model.get("context").session === session) return;
    session = model.get("context").session;
    asked = "";
    passed.clear();
    exact.clear();
    forget();
  };
  const onMoved = ({ detail }) => {
    if (detail.session !== model.get("context").session) return;
    if (asked) passed.set(asked, performance.now());
    asked = detail.figures?.recipe ?? "";
    passed.delete(asked);
    forget();
    const figures = { ...detail.figures, ...(exact.has(asked) ? { accuracy: exact.get(asked) } : {}) };
    for (const metric of metrics) if (figures[metric] && model.get(metric)) expected[metric] = { ...figures[metric], recipe: asked };
    clearTimeout(unanswered);
    unanswered = setTimeout(() => { forget(); passed.clear(); draw(); }, UNANSWERED);
    draw();
  };
  const heard = metrics.map((metric) => [`change:${metric}`, () => {
    const told = model.get(metric);
    if (metric === "accuracy" && told?.kind === "exact") exact.set(told.recipe, told);
    const before = passed.get(told?.recipe);
    if (before == null || performance.now() - before > LATE) delete expected[metric];
  }]);
  window.addEventListener("workbench-moved", onMoved);
  const hearing = [["change:context", leave], ...heard];
  for (const [event, hear] of hearing) model.on(event, hear);

  return {
    // What a card shows: the figure that is expected in the place of what the kernel told last.
    of: (metric) => (expected[metric] ? { ...model.get(metric), ...expected[metric] } : model.get(metric)),
    has: (metric) => metric in expected,
    forget,
    end: () => {
      clearTimeout(unanswered);
      window.removeEventListener("workbench-moved", onMoved);
      for (const [event, hear] of hearing) model.off(event, hear);
    },
  };
}
