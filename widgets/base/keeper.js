// Keeps the picture in a notebook current after the page was loaded anew. JupyterLab brings an updated output to
// its place only as long as it remembers the run of the cell, which a reload forgets; the update is then left over,
// and comes by here. The model lives as long as the kernel does, so it is there again after a reload, unlike a view.
// Where there is no notebook to write to (Voila, VS Code) it does nothing.

const textOf = (value) => (Array.isArray(value) ? value.join("") : value ?? "");

// The output after the one that is marked with `place`, as [outputs of its cell, its number], or null.
function find(cells, place) {
  for (const cell of cells) {
    for (let at = 0; at + 1 < (cell.outputs?.length ?? 0); at += 1) {
      if (textOf(cell.outputs.get(at).toJSON().data?.["text/html"]).includes(`data-picture="${place}"`)) return [cell.outputs, at + 1];
    }
  }
  return null;
}

function initialize({ model }) {
  const notebook = model.widget_manager?.context;
  const messages = notebook?.sessionContext?.iopubMessage;
  if (!messages) return undefined;
  const take = (_, { header, content }) => {
    if (header.msg_type !== "update_display_data" || content.transient?.display_id !== model.get("place")) return;
    const found = find(notebook.model?.cells ?? [], model.get("place"));
    if (!found) return;
    const [outputs, at] = found;
    if (textOf(outputs.get(at).toJSON().data?.["image/png"]) === content.data["image/png"]) return; // Lab knew its place
    outputs.set(at, { output_type: "display_data", data: content.data, metadata: content.metadata });
  };
  messages.connect(take);
  return () => messages.disconnect(take);
}

export default { initialize };
