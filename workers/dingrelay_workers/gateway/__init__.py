"""The HTTP gateway: jobs over HTTP, for programs in any language (extra ``gateway``).

`app.py` puts it together, `table.py` lists its routes, `http/dispatch.py` is the walk of a request,
and `drop_in/` answers as DingTalk does.
"""
