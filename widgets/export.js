function render({ model, el }) {
  el.classList.add("wb");
  el.replaceChildren(element("div", { class: "wb-card" }, element("h2", {}, "Export")));
  const unseen = reportVisibility(model, el);
  return () => unseen();
}

export default { render };
