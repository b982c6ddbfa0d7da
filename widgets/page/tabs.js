// A tab list over panels that are siblings in the Workbench's page. Arrow keys move, as the WAI-ARIA pattern
// says; the panel of another tab is hidden, which tells its view that nobody can see it.

function render({ model, el }) {
  el.classList.add("wb");
  const id = uniqueId("tabs");
  const list = element("div", { class: "wb-tabs", role: "tablist", "aria-label": model.get("label") });
  el.replaceChildren(list);
  const panelOf = (name) => el.closest(".wb-page")?.querySelector(`.wb-panel-${name}`);

  function draw() {
    const chosen = model.get("chosen");
    for (const tab of list.children) {
      const on = tab.dataset.name === chosen;
      tab.setAttribute("aria-selected", String(on));
      tab.tabIndex = on ? 0 : -1;
      const panel = panelOf(tab.dataset.name);
      if (!panel) continue;
      panel.classList.toggle("wb-panel-hidden", !on);
      panel.id ||= `${id}-${tab.dataset.name}`;
      panel.setAttribute("role", "tabpanel");
      panel.setAttribute("aria-label", tab.textContent);
      tab.setAttribute("aria-controls", panel.id);
    }
  }
  function choose(name, focus) {
    model.set("chosen", name);
    model.save_changes();
    draw();
    if (focus) list.querySelector(`[data-name="${name}"]`)?.focus();
  }
  function build() {
    list.replaceChildren(...model.get("tabs").map(({ name, title }) => {
      const tab = element("button", { type: "button", role: "tab", "data-name": name }, title);
      tab.addEventListener("click", () => choose(name));
      return tab;
    }));
    draw();
  }
  list.addEventListener("keydown", (event) => {
    const tabs = [...list.children];
    const at = tabs.findIndex((tab) => tab === document.activeElement);
    const to = { ArrowRight: at + 1, ArrowLeft: at - 1, Home: 0, End: tabs.length - 1 }[event.key];
    if (to == null || at < 0) return;
    event.preventDefault();
    choose(tabs[(to + tabs.length) % tabs.length].dataset.name, true);
  });

  // The panels are drawn by other widgets, maybe later than this one.
  const grown = new MutationObserver(draw);
  const watch = requestAnimationFrame(() => {
    const column = el.closest(".wb-panel, .wb-right");
    list.classList.toggle("wb-parts-row", Boolean(column?.classList.contains("wb-panel")));
    if (column) grown.observe(column, { childList: true });
    draw();
  });
  model.on("change:tabs", build);
  model.on("change:chosen", draw);
  build();
  return () => {
    cancelAnimationFrame(watch);
    grown.disconnect();
    model.off("change:tabs", build);
    model.off("change:chosen", draw);
  };
}

export default { render };
