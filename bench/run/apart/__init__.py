"""Methods of installed packages and of the user's files run apart: in a process of their own
(docs/architecture.md#apart).

``keeper`` is the engine's side: it starts the process, answers its reads within the method's tier, and believes nothing
it says of the cell.  ``child`` is the process, ``doors`` what it may open, ``handle`` its way to the data, ``exam``
to the test images, ``wire`` what they say to each other.
"""
