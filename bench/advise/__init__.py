"""`bench advise`: which source and which compressor for a network whose data is not at hand.

``network.py`` says which network, ``exam.py`` on which images candidates are compared, ``candidates.py`` what could be
used, ``rounds.py`` how much of it with how much effort, ``budget.py`` what that takes, ``search.py`` runs the rounds
with the engine, ``answer.py`` says what came out.
"""
