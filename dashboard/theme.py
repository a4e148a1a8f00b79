"""Colours and the look of figures: a palette that colour-blind readers tell apart, on light and on dark ground."""

from __future__ import annotations

import plotly.graph_objects as go

# Okabe and Ito's palette; its black is left out, since it vanishes on dark ground.  With the greys below, any two are
# apart by a CIE76 difference of 15 under each simulated colour blindness; figures tell more rows than colours by shape.
PALETTE = ("#0072B2", "#E69F00", "#009E73", "#CC79A7", "#56B4E9", "#D55E00", "#F0E442")
GREY = "#6A6C70"
CONTROLS = {"upper": GREY, "lower": "#BEC0C4", "none": PALETTE[0]}
"""Colour of a row by what its source declares itself: upper control, lower control, a method."""

HEAT = "Cividis"
"""Sequential scale that is read alike with and without colour vision."""

GROUNDS = {"light": ("#FFFFFF", "#F0F2F6"), "dark": ("#0E1117", "#262730")}
"""Streamlit's grounds: of the page, and of the sidebar and the boxes."""

SOFT = {"light": "#5A5D68", "dark": "#A9ADB8"}
"""Ink of captions and ticks.  Streamlit's own (its body colour at 60 %, and #808495) has a contrast below 4.5 on light
ground."""

_SOFT = f"light-dark({SOFT['light']},{SOFT['dark']})"

PAGE_STYLE = (
    """<style>
[data-testid="stMainBlockContainer"]{padding:3rem 2.5rem 3rem}
[data-testid="stSidebar"]{width:15rem !important;min-width:15rem}
[data-testid="stSidebarNav"]::before{content:"datafree-bench";display:block;font-weight:700;font-size:1.05rem;
padding:0 .5rem .6rem}
[data-testid="stMultiSelect"] [data-baseweb="tag"],[data-testid="stMultiSelect"] [data-baseweb="tag"] span{
max-width:none}
[data-testid="stMainBlockContainer"] h2{font-size:1.75rem}
[data-testid="stMainBlockContainer"] h3{font-size:1.4rem}
@media (max-width:640px){
[data-testid="stMainBlockContainer"]{padding:3.2rem 1rem 2rem}
[data-testid="stMainBlockContainer"] h1{font-size:2rem;padding-bottom:.4rem}
[data-testid="stMainBlockContainer"] h2{font-size:1.45rem}
[data-testid="stMainBlockContainer"] h3{font-size:1.2rem}
[data-testid="stHorizontalBlock"]{gap:.6rem}
[data-testid="stColumn"]:has([data-testid="stSelectbox"],[data-testid="stMultiSelect"],[data-testid="stMetric"],
[data-testid="stNumberInput"]){
min-width:calc(50% - .6rem);flex:1 1 calc(50% - .6rem)}
}
"""
    f"""[data-testid="stCaptionContainer"],[data-testid="stCaptionContainer"] p{{color:{_SOFT} !important;
opacity:1 !important}}
[data-testid="stCode"] .token{{color:inherit !important}}
.js-plotly-plot :is(.xtick,.ytick,.cbaxis) text,.js-plotly-plot :is(.xtitle,.ytitle,.cbtitle){{fill:{_SOFT} !important}}
</style>"""
)
"""Less empty room than Streamlit leaves; on a phone two filters stand in a line; captions, ticks and commands have a
contrast that can be read."""


def styled(figure: go.Figure, height: int) -> go.Figure:
    """The common look: ``height`` in pixels, transparent ground (the page's shows through), room for long names."""
    figure.update_layout(
        height=height,
        margin={"l": 8, "r": 8, "t": 32, "b": 8},
        paper_bgcolor="rgba(0,0,0,0)",
        plot_bgcolor="rgba(0,0,0,0)",
        legend={"orientation": "h", "y": 1.02, "yanchor": "bottom", "x": 0},
        font={"size": 13},
        hoverlabel={"align": "left"},
    )
    figure.update_xaxes(automargin=True, gridcolor="rgba(128,128,128,0.2)", zeroline=False)
    figure.update_yaxes(automargin=True, gridcolor="rgba(128,128,128,0.2)", zeroline=False)
    return figure
