"""Equations as MathML, which browsers draw without a script and without fonts from elsewhere.

docutils converts LaTeX. An equation that it cannot convert ends the build.
"""

from docutils.nodes import SkipNode
from docutils.utils.math import MathError
from docutils.utils.math.latex2mathml import tex2mathml


def _converted(translator, node, block):
    try:
        return tex2mathml(node.astext(), block)
    except MathError as error:
        page = translator.builder.current_docname
        raise ValueError(f"{page}: cannot convert {node.astext()!r}: {error}") from error


def _inline(translator, node):
    translator.body.append(_converted(translator, node, False))
    raise SkipNode


def _block(translator, node):
    translator.body.append(f'<div class="equation">{_converted(translator, node, True)}</div>\n')
    raise SkipNode


def setup(app):
    app.add_html_math_renderer("mathml", (_inline, None), (_block, None))
    return {"parallel_read_safe": True, "parallel_write_safe": True}
