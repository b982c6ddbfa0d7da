// The page's address follows what is shown, so that a reload or a sent link brings it back. Only the app's own
// page has an address to write (`window.workbenchPage`); in JupyterLab it belongs to Lab.
//
// The page sends the fragment it was opened with, and does not write before the kernel has answered: a reload
// while a link is being followed must find the link still there.

// Milliseconds without a change: writing takes the browser as long as drawing a figure, and a hand that pauses
// between two moves should not wait for it. A page that is left writes at once.
const QUIET = 1000;

function keepAddress(model) {
  if (!window.workbenchPage) return { flush() {}, end() {} };
  let asked = 0;
  let timer = 0;
  let known = model.get("address").fragment;
  const present = () => window.location.hash.slice(1);

  function ask() {
    clearTimeout(timer);
    asked = Math.max(asked, model.get("address").answered) + 1;
    model.send({ do: "link", fragment: present(), number: asked });
  }
  function write() {
    clearTimeout(timer);
    timer = 0;
    const { fragment, answered } = model.get("address");
    if (answered < asked || fragment === known) return;
    known = fragment;
    if (fragment === present()) return;
    const { pathname, search } = window.location;
    window.history.replaceState(window.history.state, "", `${pathname}${search}${fragment ? `#${fragment}` : ""}`);
  }
  const later = () => { clearTimeout(timer); timer = setTimeout(write, QUIET); };

  model.on("change:address", later);
  window.addEventListener("hashchange", ask);
  window.addEventListener("pagehide", write);
  if (present()) ask();
  else later();
  return {
    flush: write,
    end() {
      clearTimeout(timer);
      model.off("change:address", later);
      window.removeEventListener("hashchange", ask);
      window.removeEventListener("pagehide", write);
    },
  };
}
