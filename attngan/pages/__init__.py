"""What people look at: HTML pages filled from `templates/`, plots, pictures and attention as PNG.

Open `report.py` first. Imports storage.
"""
