package recipe

import (
	"errors"
	"fmt"
	"unicode/utf8"

	"github.com/goccy/go-yaml"
	"github.com/goccy/go-yaml/ast"
	"github.com/goccy/go-yaml/lexer"
	"github.com/goccy/go-yaml/parser"
	"github.com/goccy/go-yaml/token"
)

// Bounds of the input. A recipe is a page of text; these only keep hostile files harmless. The
// parser recurses once per nesting level, so a bound on tokens is also a bound on its stack.
const (
	maxBytes  = 1 << 20
	maxTokens = 10000
	maxDepth  = 16
)

// pos is where a value was written: a file and its line, or an override, which has no line.
type pos struct {
	origin string
	line   int
}

func (p pos) String() string {
	if p.line == 0 {
		return p.origin
	}
	return fmt.Sprintf("%s:%d", p.origin, p.line)
}

type kind uint8

const (
	null kind = iota
	scalar
	list
	mapping
)

// node is a YAML value reduced to what a recipe needs: no anchors, tags or comments.
type node struct {
	kind    kind
	text    string // scalar: the text, without its quotes
	quoted  bool   // scalar: it was quoted or a block, so it is a string and nothing else
	items   []*node
	entries []entry
	pos     pos
}

// entry is one key of a mapping, in the order of the file.
type entry struct {
	key   string
	pos   pos
	value *node
}

// find returns the value of key, or nil.
func (n *node) find(key string) *node {
	for _, e := range n.entries {
		if e.key == key {
			return e.value
		}
	}
	return nil
}

// describe names the value in an error message.
func (n *node) describe() string {
	switch {
	case n.kind == null:
		return "nothing"
	case n.kind == list:
		return "a list"
	case n.kind == mapping:
		return "a mapping"
	case n.quoted:
		return "the quoted text " + clip(n.text)
	}
	return clip(n.text)
}

// clip quotes text for a message and keeps it short.
func clip(text string) string {
	const most = 60
	if runes := []rune(text[:min(len(text), 4*most)]); len(runes) > most {
		text = string(runes[:most]) + "..."
	}
	return fmt.Sprintf("%q", text)
}

// parseYAML reads one YAML document. Without lines, positions are the origin alone.
func parseYAML(origin string, src []byte, lines bool) (n *node, err error) {
	b := builder{origin: origin, lines: lines}
	defer b.recover(&err)
	file, err := b.parse(src)
	if err != nil {
		return nil, err
	}
	return b.document(file)
}

// Values reads the plain values of a recipe that may be of another version, or foreign, within the bounds of [Parse].
func Values(origin string, src []byte) (values any, err error) {
	b := builder{origin: origin, lines: true}
	defer b.recover(&err)
	file, err := b.parse(src)
	if err != nil {
		return nil, err
	}
	if _, err := b.document(file); err != nil { // which bounds the depth, and refuses more than one document
		return nil, err
	}
	for _, doc := range file.Docs {
		if doc.Body != nil {
			err = yaml.NodeToValue(doc.Body, &values)
		}
	}
	return values, err
}

// builder turns the library's tree into nodes.
type builder struct {
	origin string
	lines  bool
}

func (b *builder) at(t *token.Token) pos {
	p := pos{origin: b.origin}
	if b.lines && t != nil && t.Position != nil {
		p.line = t.Position.Line
	}
	return p
}

// recover turns a panic of the YAML library, which malformed text has caused before, into an error.
func (b *builder) recover(err *error) {
	if r := recover(); r != nil {
		*err = fmt.Errorf("%s: malformed YAML: %v", b.origin, r)
	}
}

// parse reads a text within the bounds.
func (b *builder) parse(src []byte) (*ast.File, error) {
	if len(src) > maxBytes {
		return nil, fmt.Errorf("%s: %d bytes is too large for a recipe: the limit is %d", b.origin, len(src), maxBytes)
	}
	if !utf8.Valid(src) {
		return nil, fmt.Errorf("%s: not valid UTF-8 text", b.origin)
	}
	tokens := lexer.Tokenize(string(src))
	if err := b.checkTokens(tokens); err != nil {
		return nil, err
	}
	file, err := parser.Parse(tokens, 0, parser.AllowDuplicateMapKey())
	if err != nil {
		return nil, b.syntaxError(err)
	}
	return file, nil
}

// checkTokens refuses what a recipe does not need. Without aliases a small file cannot stand for a
// huge value; and brackets within brackets cost the parser the square of their number.
func (b *builder) checkTokens(tokens token.Tokens) error {
	if len(tokens) > maxTokens {
		return fmt.Errorf("%s: more than %d YAML tokens is too much for a recipe", b.origin, maxTokens)
	}
	depth := 0
	for _, t := range tokens {
		what := ""
		switch t.Type {
		case token.SequenceStartType, token.MappingStartType:
			if depth++; depth > maxDepth {
				return b.tooDeep(b.at(t))
			}
			continue
		case token.SequenceEndType, token.MappingEndType:
			depth--
			continue
		case token.AnchorType, token.AliasType, token.MergeKeyType:
			what = "anchors, aliases and merge keys"
		case token.TagType, token.DirectiveType:
			what = "tags and directives"
		case token.MappingKeyType:
			what = "keys written with '?'"
		default:
			continue
		}
		return fmt.Errorf("%s: %s are not allowed in a recipe: write the value out", b.at(t), what)
	}
	return nil
}

func (b *builder) tooDeep(at pos) error {
	return fmt.Errorf("%s: nested deeper than %d levels", at, maxDepth)
}

// syntaxError brings the library's message, which quotes the source, down to one line.
func (b *builder) syntaxError(err error) error {
	var syntax *yaml.SyntaxError
	if errors.As(err, &syntax) {
		return fmt.Errorf("%s: malformed YAML: %s", b.at(syntax.Token), syntax.Message)
	}
	return fmt.Errorf("%s: malformed YAML: %w", b.origin, err)
}

func (b *builder) document(file *ast.File) (*node, error) {
	var root *node
	for _, doc := range file.Docs {
		if doc.Body == nil {
			continue
		}
		if root != nil {
			return nil, fmt.Errorf("%s: a recipe is one YAML document", b.at(doc.Body.GetToken()))
		}
		n, err := b.node(doc.Body, 0)
		if err != nil {
			return nil, err
		}
		root = n
	}
	if root == nil {
		root = &node{pos: pos{origin: b.origin}}
	}
	return root, nil
}

func (b *builder) node(n ast.Node, depth int) (*node, error) {
	if n == nil {
		return &node{pos: pos{origin: b.origin}}, nil
	}
	at := b.at(n.GetToken())
	if depth > maxDepth {
		return nil, b.tooDeep(at)
	}
	switch n := n.(type) {
	case *ast.NullNode, *ast.CommentGroupNode:
		return &node{pos: at}, nil
	case *ast.StringNode:
		t := n.GetToken()
		quoted := t.Type == token.SingleQuoteType || t.Type == token.DoubleQuoteType
		return &node{kind: scalar, text: n.Value, quoted: quoted, pos: at}, nil
	case *ast.LiteralNode:
		return &node{kind: scalar, text: n.Value.Value, quoted: true, pos: at}, nil
	case *ast.BoolNode, *ast.IntegerNode, *ast.FloatNode, *ast.InfinityNode, *ast.NanNode:
		return &node{kind: scalar, text: n.GetToken().Value, pos: at}, nil
	case *ast.SequenceNode:
		return b.list(n, at, depth)
	case *ast.MappingNode:
		return b.mapping(n.Values, at, depth)
	case *ast.MappingValueNode:
		return b.mapping([]*ast.MappingValueNode{n}, at, depth)
	}
	return nil, fmt.Errorf("%s: %s is not allowed in a recipe", at, n.Type())
}

func (b *builder) list(n *ast.SequenceNode, at pos, depth int) (*node, error) {
	out := &node{kind: list, pos: at}
	for _, v := range n.Values {
		item, err := b.node(v, depth+1)
		if err != nil {
			return nil, err
		}
		out.items = append(out.items, item)
	}
	return out, nil
}

func (b *builder) mapping(values []*ast.MappingValueNode, at pos, depth int) (*node, error) {
	out := &node{kind: mapping, pos: at}
	seen := make(map[string]pos, len(values))
	for _, v := range values {
		key, err := b.node(v.Key, depth+1)
		if err != nil {
			return nil, err
		}
		if key.kind != scalar {
			return nil, fmt.Errorf("%s: a key must be a name, got %s", key.pos, key.describe())
		}
		if first, ok := seen[key.text]; ok {
			return nil, fmt.Errorf("%s: duplicate key %s: it was set before, at %s", key.pos, clip(key.text), first)
		}
		seen[key.text] = key.pos
		value, err := b.node(v.Value, depth+1)
		if err != nil {
			return nil, err
		}
		out.entries = append(out.entries, entry{key: key.text, pos: key.pos, value: value})
	}
	return out, nil
}
