"""The permissions that Dormouse asks for, as `user.has_perm` takes them, and the roles that combine them.

They are strings, because this app stands below the apps whose models define them.
"""

#: Read the event log: the page, the stream and the JSON API.
VIEW_EVENTS = "events.view_eventlog"
#: Record events of one's own.
ADD_EVENTS = "events.add_eventlog"
#: Send work to an instance.
DISPATCH = "lifecycle.dispatch_instance"
#: Put an instance to sleep, keep it there, and end what others ordered.
CONTROL = "lifecycle.control_instance"

#: What a token of each role may do.
ROLES = {
    "viewer": frozenset({VIEW_EVENTS}),
    "dispatcher": frozenset({VIEW_EVENTS, DISPATCH}),
    "operator": frozenset({VIEW_EVENTS, DISPATCH, CONTROL, ADD_EVENTS}),
}
