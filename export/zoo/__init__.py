"""The networks edgepose can export: names, recipes, published files."""
