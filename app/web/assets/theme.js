// Light or dark. Runs before the page is drawn, so that a theme chosen earlier does not flash.
(() => {
  const STORED = "xmore-theme";
  const root = document.documentElement;
  const system = matchMedia("(prefers-color-scheme: dark)");
  const isDark = () => (root.dataset.theme ?? (system.matches ? "dark" : "light")) === "dark";

  const theme = localStorage.getItem(STORED);
  if (theme) root.dataset.theme = theme;

  document.addEventListener("DOMContentLoaded", () => {
    const button = document.getElementById("theme");
    const name = () => (button.textContent = isDark() ? "Light" : "Dark");
    button.addEventListener("click", () => {
      root.dataset.theme = isDark() ? "light" : "dark";
      localStorage.setItem(STORED, root.dataset.theme);
      name();
    });
    system.addEventListener("change", name);
    name();
  });
})();
