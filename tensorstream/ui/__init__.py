"""The estimator as a page in the browser: ``tensorstream ui``.

form.py says what can be asked, page.py what is answered, both without Gradio; server.py puts
them together and is the only one that needs the extra ``ui``.
"""
