"""A client that keeps a connection: opens a file and does what its standard input says, or watches a directory.

client.py CONF SHARE USER PASSWORD hold PATH     lines in: read, write TEXT (after the last), close; answers on standard output
client.py CONF SHARE USER PASSWORD watch PATH    prints each change; ends with its standard input
"""
import sys
import threading

from samba import credentials
from samba.samba3 import libsmb_samba_internal as libsmb
from samba.samba3 import param

OPLOCK_AND_BATCH = 2 | 4
READ_AND_WRITE = 0x12019F
SHARE_ALL = 7
OPEN_IF = 3
OPEN = 1
LIST = 0x100081
DIRECTORY = 1


def say(*words):
    print(*words, flush=True)


def main():
    conf, share, user, password, what, path = sys.argv[1:]
    parameters = param.get_context()
    parameters.load(conf)
    creds = credentials.Credentials()
    creds.guess(parameters)
    creds.set_username(user)
    creds.set_password(password)
    creds.set_kerberos_state(credentials.DONT_USE_KERBEROS)
    conn = libsmb.Conn("127.0.0.1", share, lp=parameters, creds=creds)
    conn.settimeout(300_000)
    if what == "watch":
        watch(conn, path)
    else:
        hold(conn, path)


def hold(conn, path):
    handle = conn.create(path, CreateFlags=OPLOCK_AND_BATCH, DesiredAccess=READ_AND_WRITE,
                         ShareAccess=SHARE_ALL, CreateDisposition=OPEN_IF)
    say("open")
    at = 0
    for line in sys.stdin:
        word, _, text = line.rstrip("\n").partition(" ")
        if word == "read":
            say(conn.read(handle, 0, 65536).decode())
        elif word == "write":
            at += conn.write(handle, text.encode(), at)
            say("written")
        else:
            conn.close(handle)
            say("closed")
            return


def watch(conn, path):
    handle = conn.create(path, DesiredAccess=LIST, ShareAccess=SHARE_ALL, CreateDisposition=OPEN,
                         CreateOptions=DIRECTORY)
    everything = libsmb.FILE_NOTIFY_CHANGE_ALL
    request = conn.notify(fnum=handle, buffer_size=65536, completion_filter=everything, recursive=True)
    # Requests of one connection are taken in order: after this answer the server has the first.
    conn.chkpath("")
    say("watching")
    threading.Thread(target=lambda: (sys.stdin.read(), __import__("os")._exit(0)), daemon=True).start()
    while True:
        for change in request.get_changes(wait=True) or []:
            say(change["action"], change["name"])
        request = conn.notify(fnum=handle, buffer_size=65536, completion_filter=everything, recursive=True)


main()
