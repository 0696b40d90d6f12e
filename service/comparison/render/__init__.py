"""Reports as people read them: Markdown, and a page that needs no network. It measures and computes nothing."""

from service.comparison.render.as_page import POLICY, html, html_body
from service.comparison.render.as_text import markdown

__all__ = ["POLICY", "html", "html_body", "markdown"]
