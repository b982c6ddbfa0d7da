// One row for all runtimes: choose a format, read what it is, have it made, tried and downloaded.

function runtimeRow(model) {
  const id = uniqueId("runtime");
  const choice = element("select", { id });
  const about = element("p", { class: "wb-muted" });
  const install = element("p", { class: "wb-muted" });
  const verdict = element("p", { class: "wb-file-verdict", role: "status" });
  const remarks = element("ul", { class: "wb-file-remarks", "aria-label": "What to know of this file" });
  const start = button("Make and download", { "aria-label": "Make the file for the runtime and download it" });
  const bar = element("progress", { max: 1, "aria-label": "Making the file" });
  const stop = button("Cancel");
  const said = element("span", { class: "wb-muted", role: "status" });
  const problem = element("p", { class: "wb-problem", role: "alert" });
  const root = element("section", { class: "wb-file", "data-file": "runtime", "aria-label": "For a runtime" },
    element("div", { class: "wb-file-head" }, element("h3", {}, element("label", { for: id }, "For a runtime")), choice),
    element("div", { class: "wb-file-act" }, said, bar, stop, start),
    element("div", { class: "wb-file-body" }, about, install), verdict, remarks, problem);
  let cancel = null;
  const chosen = () => model.get("formats").find(({ name }) => name === choice.value);
  // The focus goes back to the button only from the one that is hidden: the person may be elsewhere by now.
  const idle = () => {
    const had = document.activeElement === stop;
    cancel = null;
    bar.hidden = stop.hidden = true;
    start.hidden = false;
    if (had) start.focus();
  };

  function describe() {
    const format = chosen();
    if (!format) return;
    const again = format.varies ? ` Written again, its bytes differ: ${format.varies}.` : "";
    setText(about, `${format.title} (${format.suffix}): ${format.summary}.${again}`);
    install.replaceChildren(...(format.installed ? [] : ["Not installed here: ", element("code", {}, format.install)]));
    start.disabled = !format.installed;
  }
  const forget = () => { remarks.replaceChildren(); setText(verdict, ""); problem.textContent = ""; };
  choice.addEventListener("change", () => { describe(); forget(); setText(said, ""); });
  start.addEventListener("click", () => {
    forget();
    setText(said, "Making");
    start.hidden = true;
    bar.hidden = stop.hidden = false;
    bar.removeAttribute("value");
    stop.focus();
    const end = () => model.off("msg:custom", hear);
    const hear = (message) => {
      if (message.made === undefined || message.made !== ticket) return;
      if (message.doing) { setText(said, message.doing); return; }
      setText(verdict, message.verdict);
      remarks.replaceChildren(...message.remarks.map((text) => element("li", {}, text)));
    };
    const ticket = ticketOf();
    model.on("msg:custom", hear);
    const drop = downloadOf(model, { do: "make", format: choice.value, ticket }, {
      progress: (now, total) => { if (total) bar.value = now / total; },
      done: (_, total) => { end(); idle(); setText(said, `${count(total)} bytes downloaded`); },
      fail: (sentence) => { end(); idle(); setText(said, ""); problem.textContent = sentence; },
    });
    cancel = () => { end(); drop(); };
  });
  stop.addEventListener("click", () => { cancel?.(); idle(); setText(said, "Cancelled"); });
  idle();

  let shown = "";
  function draw() {
    const formats = model.get("formats");
    const name = model.get("files")[0]?.name ?? "";
    if (name !== shown && !cancel) { forget(); setText(said, ""); } // what was said is of the recipe before
    shown = name;
    root.hidden = !formats.length;
    if (choice.options.length === formats.length) return;
    choice.replaceChildren(...formats.map(({ name, title, installed }) => element("option", { value: name }, installed ? title : `${title} (not installed)`)));
    describe();
  }
  return { root, draw, end: () => cancel?.() };
}
