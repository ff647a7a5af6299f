"""The HTTP gateway: jobs over HTTP, for programs in any language (extra ``gateway``).

`app.py` puts it together, `table.py` lists its routes, `dispatch.py` is the walk of a request.
"""
