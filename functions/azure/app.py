"""The function app: each job and door is a blueprint of its own."""

import azure.functions as func

from functions.azure.api import routes

app = func.FunctionApp()
app.register_functions(routes)
