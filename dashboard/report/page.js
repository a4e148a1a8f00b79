(() => {
  const scheme = window.matchMedia("(prefers-color-scheme: dark)");
  const root = document.documentElement;
  const ink = () => getComputedStyle(root).getPropertyValue("--ink").trim();
  const draw = (figure) => {
    if (figure.dataset.drawn) return;
    figure.dataset.drawn = "yes";
    const spec = JSON.parse(figure.querySelector("script").textContent);
    spec.layout.font = { ...spec.layout.font, color: ink() };
    const config = { displaylogo: false, displayModeBar: false };
    const plot = figure.querySelector(".plot");
    Plotly.newPlot(plot, spec.data, spec.layout, config).then(() => {
      new ResizeObserver(() => plot.offsetWidth && !root.classList.contains("printing") && Plotly.Plots.resize(plot))
        .observe(plot);
    });
  };
  const figures = [...document.querySelectorAll(".figure")];
  const plots = () => figures.filter((figure) => figure.dataset.drawn).map((figure) => figure.querySelector(".plot"));
  const near = new IntersectionObserver(
    (entries) => entries.filter((e) => e.isIntersecting).forEach((e) => { near.unobserve(e.target); draw(e.target); }),
    { rootMargin: "600px" },
  );
  figures.forEach((figure) => near.observe(figure));
  let opened = [];
  window.addEventListener("beforeprint", () => {
    root.classList.add("printing");
    opened = [...document.querySelectorAll("details:not([open])")];
    opened.forEach((part) => { part.open = true; });
    figures.forEach(draw);
    plots().forEach((plot) => Plotly.relayout(plot, { width: plot.clientWidth, "font.color": ink() }));
    document.querySelectorAll(".scroll > table").forEach((table) => {
      const room = table.parentElement.clientWidth;
      if (table.offsetWidth > room) table.style.zoom = room / table.offsetWidth;
    });
  });
  window.addEventListener("afterprint", () => {
    root.classList.remove("printing");
    opened.forEach((part) => { part.open = false; });
    document.querySelectorAll(".scroll > table").forEach((table) => { table.style.zoom = ""; });
    plots().forEach((plot) => Plotly.relayout(plot, { width: null, autosize: true, "font.color": ink() }));
  });
  scheme.addEventListener("change", () => {
    plots().forEach((plot) => Plotly.relayout(plot, { "font.color": ink() }));
  });
})();
