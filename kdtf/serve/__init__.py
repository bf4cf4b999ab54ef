"""A student behind HTTP, for the computers of a department: an image in, what `Predictor` says of it out.

`server` binds and ends, `app` answers requests, `guard` turns away those that must not come in, `pool` runs
the student in processes of their own, `worker` is such a process. It keeps no image, logs no name of a file
or a client, and prints nothing.
"""
