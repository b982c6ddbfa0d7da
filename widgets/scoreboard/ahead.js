// Figures that were found before their recipe was asked for come with the move itself, from the controls. Each stands
// until the kernel tells one of that move or of a later one: moves are numbered, and what it tells says which it had
// heard of. A move of which nothing was foreseen leaves what is shown until then, as a figure that is waited for.

// Milliseconds after which a figure that the kernel has not confirmed is no longer shown.
const UNANSWERED = 2500;

function expectations(model, metrics, draw) {
  const expected = {};
  const exact = new Map(); // recipe → the accuracy of every image, where the kernel has told it: better than the first look
  let last = 0; // the number of the last move
  let unanswered = 0;
  const forget = () => { for (const metric of metrics) delete expected[metric]; };
  // A recipe is called the same for every model and data set: what is known of it is of one session.
  let session = model.get("context").session;
  const leave = () => {
    if (model.get("context").session === session) return;
    session = model.get("context").session;
    exact.clear();
    forget();
  };
  const onMoved = ({ detail }) => {
    if (detail.session !== model.get("context").session) return;
    last = detail.move;
    const recipe = detail.figures?.recipe;
    const figures = { ...detail.figures, ...(exact.has(recipe) ? { accuracy: exact.get(recipe) } : {}) };
    for (const metric of metrics) if (figures[metric] && model.get(metric)) expected[metric] = { ...figures[metric], recipe, move: last };
    clearTimeout(unanswered);
    unanswered = setTimeout(() => { forget(); draw(); }, UNANSWERED);
    draw();
  };
  const heard = metrics.map((metric) => [`change:${metric}`, () => {
    const told = model.get(metric);
    if (metric === "accuracy" && told?.kind === "exact") exact.set(told.recipe, told);
    if (!(told?.move < expected[metric]?.move)) delete expected[metric];
  }]);
  window.addEventListener("workbench-moved", onMoved);
  const hearing = [["change:context", leave], ...heard];
  for (const [event, hear] of hearing) model.on(event, hear);

  return {
    // What a card shows: the figure that is expected in the place of what the kernel told last.
    of: (metric) => (expected[metric] ? { ...model.get(metric), ...expected[metric] } : model.get(metric)),
    has: (metric) => expected[metric]?.move === last,
    forget,
    end: () => {
      clearTimeout(unanswered);
      window.removeEventListener("workbench-moved", onMoved);
      for (const [event, hear] of hearing) model.off(event, hear);
    },
  };
}
