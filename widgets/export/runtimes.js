// One row for all runtimes: choose a format, read what it is, have it made, tried and downloaded.

function runtimeRow(model) {
  const id = uniqueId("runtime");
  const choice = element("select", { id });
  const about = element("p", { class: "wb-muted" });
  const install = element("p", { class: "wb-muted" });
  const verdict = element("p", { class: "wb-file-verdict", role: "status" });
  const remarks = element("ul", { class: "wb-file-remarks", "aria-label": "What to know of this file" });
  const part = downloadPart("Make and download", "Make the file for the runtime and download it", "Making the file");
  const root = element("section", { class: "wb-file", "data-file": "runtime", "aria-label": "For a runtime" },
    element("div", { class: "wb-file-head" }, element("h3", {}, element("label", { for: id }, "For a runtime")), choice),
    part.root, element("div", { class: "wb-file-body" }, about, install), verdict, remarks, part.problem);
  const chosen = () => model.get("formats").find(({ name }) => name === choice.value);

  function describe() {
    const format = chosen();
    if (!format) return;
    const again = format.varies ? ` Written again, its bytes differ: ${format.varies}.` : "";
    setText(about, `${format.title} (${format.suffix}): ${format.summary}.${again}`);
    install.replaceChildren(...(format.installed ? [] : ["Not installed here: ", element("code", {}, format.install)]));
    part.start.disabled = !format.installed;
  }
  const forget = () => { remarks.replaceChildren(); setText(verdict, ""); };
  choice.addEventListener("change", () => { describe(); forget(); if (!part.runs()) part.forget(); });
  part.start.addEventListener("click", () => {
    forget();
    const ticket = ticketOf();
    const hear = (message) => {
      if (message.made === undefined || message.made !== ticket) return;
      if (message.doing) { part.say(message.doing); return; }
      setText(verdict, message.verdict);
      remarks.replaceChildren(...message.remarks.map((text) => element("li", {}, text)));
    };
    model.on("msg:custom", hear);
    part.run(model, { do: "make", format: choice.value, ticket }, "Making", () => model.off("msg:custom", hear));
  });

  let shown = "";
  function draw() {
    const formats = model.get("formats");
    const name = model.get("files")[0]?.name ?? "";
    if (name !== shown && !part.runs()) { forget(); part.forget(); } // what was said is of the recipe before
    shown = name;
    root.hidden = !formats.length;
    if (choice.options.length === formats.length) return;
    choice.replaceChildren(...formats.map(({ name, title, installed }) => element("option", { value: name }, installed ? title : `${title} (not installed)`)));
    describe();
  }
  return { root, draw, end: part.end };
}
