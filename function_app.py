from functions.azure.app import app as app  # the worker looks for `app` beside host.json
