"""proxy: Services, from API objects to rules in every node's kernel; see README.md."""
