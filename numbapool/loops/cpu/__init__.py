"""The CPU loops: `rows` is common ground; `fold`, `select`, `draw` and `order` are the families of formulas."""
