"""Names of the permissions that Dormouse asks for, as `user.has_perm` takes them.

They are strings, because this app stands below the apps whose models define them.
"""

#: Read the event log: the page, the stream and the JSON API.
VIEW_EVENTS = "events.view_eventlog"
#: Send work to an instance.
DISPATCH = "lifecycle.dispatch_instance"
