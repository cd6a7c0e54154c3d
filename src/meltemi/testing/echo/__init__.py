"""An application that speaks every protocol of a mesh, as server and as client, and tells what it has seen.

    python3 -m meltemi.testing.echo --http 8080 --tcp 9000 --control 19000

As a server it answers with what it was asked, and does what the request says: another status, a delay, so many failures
first. As a client it takes orders on its control port ("20 requests to this address, 4 at once") and answers with what
came of each. So a test decides both ends of a connection, and both go through their sidecars as any application does.

    orders.py      what a client is told, and what it tells
    answering.py   what a server answers: a function of the request
    http1.py http2.py websocket.py streams.py      the server's protocols
    calling.py     the client's
    control.py     the control port, and a way into the mesh from outside
"""
