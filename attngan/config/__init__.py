"""Every setting, once: what it means, its unit, its bounds and its default, the paper's bird recipe.

Open `settings.py` first; `recipes/` holds what differs for the demo and for the smallest size. YAML text in and out is
`yaml_text.py`. Imports nothing of attngan but `errors`.
"""
