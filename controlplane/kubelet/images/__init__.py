"""The image catalogue: names of images, and the programs that stand behind them (see README.md)."""
