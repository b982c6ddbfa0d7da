// A notebook output as VS Code draws it: the Jupyter extension's own widget manager, and no JupyterLab around it.
import { KernelManager, ServerConnection } from "@jupyterlab/services";
import { activate } from "@vscode/jupyter-ipywidgets8/dist/ipywidgets.js";

const WIDGET = "application/vnd.jupyter.widget-view+json";
const base = new URL("/", location.href).href;

// The extension names the nbextension that it found in the kernel's environment; require.js loads it.
const scripts = {
  widgetsRegisteredInRequireJs: new Set(),
  async loadWidgetScript(name) {
    window.requirejs.config({ paths: { [name]: `${base}nbextensions/${name}/index` } });
    scripts.widgetsRegisteredInRequireJs.add(name);
  },
  successHandler: () => undefined,
  errorHandler: (name, module, version, error) => { throw new Error(`${module}.${name} did not load: ${error}`); },
};

// Runs `code` in a new kernel and draws the widget it ends with.
window.runCell = async (code) => {
  const serverSettings = ServerConnection.makeSettings({ baseUrl: base, wsUrl: base.replace(/^http/, "ws") });
  const manager = new KernelManager({ serverSettings });
  await manager.ready;
  const kernel = await manager.startNew({ name: "python3" });
  window.endKernel = () => kernel.shutdown();
  activate();
  window.vscIPyWidgets8.load();
  const output = document.querySelector(".output");
  const widgets = new window.vscIPyWidgets.WidgetManager(kernel, output, scripts, () => undefined);
  const future = kernel.requestExecute({ code });
  future.onIOPub = async ({ header, content }) => {
    if (header.msg_type === "error") throw new Error(content.evalue);
    const shown = content.data?.[WIDGET];
    if (!shown) return;
    const view = await widgets.create_view(await widgets.get_model(shown.model_id), { el: output });
    await widgets.display_view(shown, view, { node: output });
  };
  await future.done;
};
