// The page and what is behind it: the skeleton while the kernel starts, and a banner when it ends or the
// server cannot be reached. The recipe is in the page's address, so starting again is a reload.
{
  const base = document.body.dataset.baseUrl;
  const address = new URL(location.href);
  if (address.searchParams.has("token")) { // the cookie has it now; a link passed on must not
    address.searchParams.delete("token");
    history.replaceState(history.state, "", address);
  }

  // ── The skeleton stays until the figures are on the page; meanwhile Voila calls these. ──
  try {
    document.body.classList.toggle("wb-hint-put-away", localStorage.getItem("workbench-hint") === "away");
  } catch { /* private window: the hint is there */ }
  const PATIENCE = 60_000;
  let finished = 0;
  const say = (text) => { const node = document.getElementById("loading_text"); if (node) node.textContent = text; };
  window.voila_heartbeat = () => say("Starting a kernel: the machine is busy, so it takes a while");
  window.update_loading_text = window.voila_process = () => say("Loading the workbench");
  window.voila_finish = window.display_cells = () => {
    const outputs = [...document.querySelectorAll("script[type='application/vnd.voila.cell-output+json']")];
    if (!finished && !outputs.some((output) => output.textContent.includes("jupyter.widget-view"))) show("failed");
    finished = finished || performance.now();
    say("Drawing the page");
  };
  const isDrawn = () => document.body.classList.contains("wb-ready");
  const drawn = new MutationObserver(() => {
    if (!document.querySelector("[data-metric]")) return;
    drawn.disconnect();
    document.body.classList.add("wb-ready");
  });
  drawn.observe(document.body, { childList: true, subtree: true });

  // ── The banner: one sentence, one button. ──
  const KEPT = "your recipe is kept in this page’s address.";
  const SENTENCES = {
    died: `The kernel behind this page stopped unexpectedly; ${KEPT}`,
    idle: `Nothing happened here for hours, so the kernel was ended to make room; ${KEPT}`,
    closed: `The kernel behind this page was ended; ${KEPT}`,
    unknown: `The server was started anew since this page was opened; ${KEPT}`,
    token: `The server asks for its token again; ${KEPT}`,
    failed: "The workbench could not be started here; the server’s log says why.",
    lost: "Connection lost, trying again.",
    unreachable: `The server cannot be reached; ${KEPT}`,
  };
  const PASSING = ["lost", "unreachable"];
  let shown = "";
  function show(what) {
    if (what === shown) return;
    shown = what;
    const banner = document.getElementById("wb-banner");
    const [sentence, button] = banner.children;
    sentence.textContent = SENTENCES[what] || "";
    button.hidden = what === "lost";
    banner.hidden = !what;
    const ended = Boolean(what) && !PASSING.includes(what);
    document.body.classList.toggle("wb-ended", ended);
    document.getElementById("rendered_cells")?.toggleAttribute("inert", ended); // a key would move what nobody answers
  }
  async function startAgain() {
    const button = document.querySelector("#wb-banner button");
    button.disabled = true;
    if (await ask("none")) location.reload();
    else show("unreachable");
    button.disabled = false;
  }

  // ── Looking after the kernel. ──
  const PAUSE = 2_000;
  const GRACE = 20_000;
  const ATTEMPT = 5_000;
  let kernelId = "";
  let lostAt = 0;
  let triedAt = 0;
  let looking = 0;
  const connection = () => window.jupyterapp?.widgetManager?.kernel;
  async function ask(id) {
    try {
      const reply = await fetch(`${base}page/${id}`, { cache: "no-store", signal: AbortSignal.timeout(4_000) });
      if (reply.status === 403) return { open: false, reason: "token" };
      return reply.ok ? await reply.json() : null;
    } catch { return null; }
  }
  async function look() {
    clearTimeout(looking);
    const state = await ask(kernelId);
    if (state && !state.open) { show(state.reason); return; }
    const kernel = connection();
    const connected = state && (!isDrawn() || !kernel || kernel.connectionStatus === "connected");
    if (connected) { lostAt = 0; show(""); }
    else {
      lostAt = lostAt || performance.now();
      show(performance.now() - lostAt < GRACE ? "lost" : "unreachable");
      // Left alone it would wait longer after each failure, longer than the server keeps the kernel.
      if (state && kernel && !kernel.isDisposed && performance.now() - triedAt > ATTEMPT) {
        triedAt = performance.now();
        kernel.reconnect().catch(() => {});
      }
    }
    if (!isDrawn() && finished && performance.now() - finished > PATIENCE) { show("failed"); return; }
    looking = setTimeout(look, connected ? PAUSE : PAUSE / 4);
  }
  function watch() {
    const config = document.getElementById("jupyter-config-data");
    kernelId = config ? JSON.parse(config.textContent).kernelId : "";
    if (!kernelId) { if (!shown) show("failed"); return; }
    look();
    document.addEventListener("visibilitychange", () => { if (!document.hidden && !document.body.classList.contains("wb-ended")) look(); });
    window.addEventListener("load", function listen() { // as soon as the app is there: its kernel tells sooner than asking does
      const kernel = connection();
      if (!kernel) { setTimeout(listen, 200); return; }
      let lost = false;
      kernel.statusChanged.connect((_, status) => { if (status === "dead") look(); });
      kernel.connectionStatusChanged.connect((_, status) => {
        if (status === "connected" && lost) catchUp();
        lost = status !== "connected";
      });
    });
  }
  // What was sent while the line went dead is lost, and with it the answer each widget waits for before it
  // sends again: they are told not to wait, and the controls to say once more what they show.
  async function catchUp() {
    const manager = window.jupyterapp.widgetManager;
    for (const id of manager.registeredModels) {
      const model = manager.has_model(id) && (await manager.get_model(id));
      if (model && model._pending_msgs > 0) {
        model._pending_msgs = 1;
        model._handle_status({ content: { execution_state: "idle" } });
      }
    }
    window.dispatchEvent(new Event("workbench-reconnected"));
    look();
  }
  document.addEventListener("DOMContentLoaded", () => {
    document.querySelector("#wb-banner button").addEventListener("click", startAgain);
    watch();
  });
  window.addEventListener("pageshow", (event) => { if (event.persisted) location.reload(); }); // its kernel ended when it was left
  window.workbenchPage = { ended: show };
}
