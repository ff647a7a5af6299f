"""The drop-in door: DingTalk's own URLs, for programs that call DingTalk (design §12).

A program changes its base URL and nothing else. Messages and approvals become jobs, every other call
an `api-call`; all of them are answered in DingTalk's words.
"""
