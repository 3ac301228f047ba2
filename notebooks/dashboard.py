"""Take the pictures of cluster.ipynb: `python notebooks/dashboard.py`, with chromium installed.

A LocalCluster fits a logistic regression to Parquet files over and over; a headless browser looks at its dashboard.
"""

import asyncio
import base64
import json
import pathlib
import subprocess
import sys
import tempfile
import threading

import dask.dataframe as dd
import numpy as np
import pandas as pd
from distributed import Client, LocalCluster
from tornado.httpclient import AsyncHTTPClient
from tornado.websocket import websocket_connect

import daskglm_rep as dg

PAGES = {"status": "1400,760", "workers": "1400,560"}
IMAGES = pathlib.Path(__file__).parent / "images"


def write_flights(folder, n=1_200_000):
    rng = np.random.default_rng(0)
    frame = pd.DataFrame({f"x{j}": rng.normal(size=n) for j in range(8)}).assign(firm=rng.integers(0, 500, n))
    frame["late"] = (frame["x0"] - 0.5 * frame["x1"] + rng.logistic(size=n) > 1).astype(int)
    dd.from_pandas(frame, npartitions=24).to_parquet(folder)


def fit_until(stop, folder):
    while not stop.is_set():
        dg.logit("late ~ x0 * x1 + x2 + x3", folder, clusters="firm")


async def picture(browser, url, size, seconds=20):
    """A PNG of a page after some seconds of real time, asked for over the browser's debugging protocol."""
    with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as profile:
        chromium = subprocess.Popen([browser, "--headless", "--no-sandbox", "--disable-gpu", "--hide-scrollbars",
                                     f"--window-size={size}", f"--user-data-dir={profile}", "--remote-debugging-port=0",
                                     url], stderr=subprocess.PIPE, text=True)
        try:
            port = next(line for line in chromium.stderr if "DevTools listening" in line).split(":")[2].split("/")[0]
            await asyncio.sleep(seconds)
            pages = json.loads((await AsyncHTTPClient().fetch(f"http://127.0.0.1:{port}/json")).body)
            page = next(p["webSocketDebuggerUrl"] for p in pages if p["type"] == "page")
            socket = await websocket_connect(page, max_message_size=2 ** 26)
            await socket.write_message(json.dumps({"id": 1, "method": "Page.captureScreenshot"}))
            return base64.b64decode(json.loads(await socket.read_message())["result"]["data"])
        finally:
            chromium.terminate()
            chromium.wait()


def main(browser="chromium"):
    with tempfile.TemporaryDirectory() as folder:
        write_flights(folder)
        with LocalCluster(n_workers=2, threads_per_worker=1, dashboard_address="127.0.0.1:0") as cluster:
            with Client(cluster):
                dg.logit("late ~ x0 * x1 + x2 + x3", folder, clusters="firm")              # compiles
                stop = threading.Event()
                working = threading.Thread(target=fit_until, args=(stop, folder))
                working.start()
                for page, size in PAGES.items():
                    url = f"{cluster.dashboard_link.rsplit('/', 1)[0]}/{page}"
                    (IMAGES / f"dashboard_{page}.png").write_bytes(asyncio.run(picture(browser, url, size)))
                stop.set()
                working.join()


if __name__ == "__main__":
    main(*sys.argv[1:])
