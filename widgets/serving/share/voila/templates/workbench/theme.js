// Theme: the person's choice, else the system's. Voila's theme manager sets the attribute once more when
// it has loaded, so it is watched and put back.
{
  const asked = window.matchMedia("(prefers-color-scheme: dark)");
  const stored = () => { try { return localStorage.getItem("workbench-theme"); } catch { return null; } };
  const dark = () => (stored() ? stored() === "dark" : asked.matches);
  const apply = () => {
    const light = String(!dark());
    if (document.body.dataset.jpThemeLight !== light) document.body.dataset.jpThemeLight = light;
  };
  new MutationObserver(apply).observe(document.body, { attributes: true, attributeFilter: ["data-jp-theme-light"] });
  asked.addEventListener("change", apply);
  window.workbenchTheme = {
    dark,
    toggle() {
      try { localStorage.setItem("workbench-theme", dark() ? "light" : "dark"); } catch { /* private window: for this page only */ }
      apply();
    },
  };
  apply();
}
