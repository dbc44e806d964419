"""What each verb does: a coroutine a verb, a module a subject, named as in the client's protocol and requests.

A handler takes its turn before it awaits anything: so requests to one node run in the order in which they came.
"""
