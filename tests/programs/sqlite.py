#!/usr/bin/env python3
"""One process that works on an SQLite database, for tests/programs/sqlite.rs.

    sqlite.py write DB JOURNAL NUMBER ROWS    says `ok N` after each row that is committed
    sqlite.py read DB                         looks until its input ends; says how often
    sqlite.py check DB                        rows of each writer, after an integrity check
    sqlite.py hang DB                         begins to change, says `begun`, and waits to be killed
"""

import select
import sqlite3
import sys
import time

# Seconds that a process waits for the locks of the others.
PATIENCE = 60


def patiently(act):
    """What is no part of a transaction. Two that make, join or leave the log of a database at once: SQLite tells one
    of them at once that it is locked, on any filesystem, and asks no timeout. Programs try again."""
    end = time.monotonic() + PATIENCE
    while True:
        try:
            return act()
        except sqlite3.OperationalError as error:
            if not any(words in str(error) for words in ("database is locked", "locking protocol")) or time.monotonic() > end:
                raise


def opened(path, journal=None):
    base = sqlite3.connect(path, timeout=PATIENCE, isolation_level=None)
    if journal:
        patiently(lambda: base.execute(f"pragma journal_mode={journal}"))
    return base


def rows(base):
    return base.execute("select writer, count(*), min(number), max(number) from t group by writer order by writer").fetchall()


def write(path, journal, writer, count):
    number = 0
    while number < count:
        # A new connection for some rows each: between them nobody has the file open.
        base = opened(path, journal)
        table = "t (writer integer, number integer, text text, primary key (writer, number))"
        patiently(lambda: base.execute(f"create table if not exists {table}"))
        for _ in range(5):
            patiently(lambda: base.execute("begin immediate"))
            base.execute("insert into t values (?, ?, ?)", (writer, number, str(number) * 300))
            base.execute("update t set text = text || 'x' where writer = ? and number = ?", (writer, number // 2))
            base.execute("commit")
            print("ok", number, flush=True)
            number += 1
        base.close()


def read(path):
    looks = 0
    while looks == 0 or not select.select([sys.stdin], [], [], 0)[0]:
        base = opened(path)
        try:
            found = patiently(lambda: rows(base))
        except sqlite3.OperationalError as error:
            if "no such table" not in str(error):
                raise
            found = []
        for writer, count, least, most in found:
            assert (least, most) == (0, count - 1), (writer, count, least, most)
        base.close()
        looks += 1
    print(looks)


def check(path):
    base = opened(path)
    assert base.execute("pragma integrity_check").fetchall() == [("ok",)]
    for writer, count, least, most in rows(base):
        print(writer, count, least, most)


def hang(path):
    base = opened(path)
    base.execute("pragma cache_size = 5")
    base.execute("begin immediate")
    # More than the cache holds: pages reach the file, or its log, before the commit.
    base.execute("update t set text = text || 'never committed'")
    base.execute("insert into t select 1000 + writer, number, text from t")
    print("begun", flush=True)
    sys.stdin.read()


if __name__ == "__main__":
    what, path, *more = sys.argv[1:]
    if what == "write":
        write(path, more[0], int(more[1]), int(more[2]))
    else:
        {"read": read, "check": check, "hang": hang}[what](path)
