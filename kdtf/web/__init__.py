"""Students as a folder of static files that runs them in a visitor's browser through LiteRT.js.

`student` gives a bundle in a browser's terms, `build` the folder. It changes nothing of a model but its batch
size, fetches nothing, and puts no path or setting of a run on the page.
"""
