package main

import (
	"bytes"
	"fmt"
	"html"
)

// width is that of every picture, in pixels: a page of GitHub shows it as it is.
const width = 840

// style has the colours of both themes. A picture has a ground of its own: where the page is dark and the browser
// asks for light, or the other way round, it can still be read.
const style = `
  svg { --ground: #ffffff; --ink: #1f2328; --soft: #59636e; --line: #d1d9e0; --good: #1a7f37; --bad: #cf222e;
        --fill: #dafbe1; --warn: #fff8c5; --other: #0969da; --otherfill: #ddf4ff; }
  @media (prefers-color-scheme: dark) {
    svg { --ground: #0d1117; --ink: #f0f6fc; --soft: #9198a1; --line: #3d444d; --good: #3fb950; --bad: #f85149;
          --fill: #12361f; --warn: #3b2f0b; --other: #4493f8; --otherfill: #11284a; }
  }
  text { font: 14px -apple-system, "Segoe UI", "Noto Sans", Helvetica, Arial, sans-serif; fill: var(--ink); }
  .title { font-size: 16px; font-weight: 600; }
  .soft { fill: var(--soft); }
  .small { font-size: 13px; }
  .good { fill: var(--good); }
  .bad { fill: var(--bad); }
  .other { fill: var(--other); }
  .strong { font-weight: 600; }
`

// scene is a picture that is being drawn.
type scene struct {
	name   string // what is read aloud in its place
	height int
	body   bytes.Buffer
}

func (s *scene) add(format string, args ...any) { fmt.Fprintf(&s.body, "  "+format+"\n", args...) }

// text writes at a point; anchor is start, middle or end.
func (s *scene) text(x, y float64, anchor, class, text string) {
	s.add(`<text x="%.1f" y="%.1f" text-anchor="%s" class="%s">%s</text>`, x, y, anchor, class, html.EscapeString(text))
}

// line draws a line; dash is "" for a solid one.
func (s *scene) line(x1, y1, x2, y2 float64, colour, dash string) {
	s.add(`<line x1="%.1f" y1="%.1f" x2="%.1f" y2="%.1f" style="stroke: var(--%s); stroke-width: 1.5; stroke-dasharray: %s"/>`,
		x1, y1, x2, y2, colour, orNone(dash))
}

func orNone(s string) string {
	if s == "" {
		return "none"
	}
	return s
}

// box draws a rectangle with an edge; "" is no edge.
func (s *scene) box(x1, y1, x2, y2 float64, fill, edge string) {
	stroke := "none"
	if edge != "" {
		stroke = "var(--" + edge + ")"
	}
	s.add(`<rect x="%.1f" y="%.1f" width="%.1f" height="%.1f" rx="4" style="fill: var(--%s); stroke: %s; stroke-width: 1.5"/>`,
		x1, y1, x2-x1, y2-y1, fill, stroke)
}

// dot is a write, circle a read.
func (s *scene) dot(x, y float64, colour string) {
	s.add(`<circle cx="%.1f" cy="%.1f" r="5.5" style="fill: var(--%s)"/>`, x, y, colour)
}

func (s *scene) circle(x, y float64, colour string) {
	s.add(`<circle cx="%.1f" cy="%.1f" r="4.5" style="fill: var(--ground); stroke: var(--%s); stroke-width: 1.5"/>`, x, y,
		colour)
}

// cross marks what gets nowhere.
func (s *scene) cross(x, y float64) {
	s.add(`<path d="M%.1f,%.1fl12,12m0,-12l-12,12" style="stroke: var(--bad); stroke-width: 3; fill: none"/>`, x-6, y-6)
}

// arrow points from one height to another.
func (s *scene) arrow(x, from, to float64, colour string) {
	head := 6.0
	if to > from {
		head = -head
	}
	s.add(`<path d="M%.1f,%.1fV%.1fm-5,%.1fl5,%.1fl5,%.1f" style="stroke: var(--%s); stroke-width: 1.5; fill: none"/>`,
		x, from, to, head, -head, head, colour)
}

// span measures the time between two points.
func (s *scene) span(x1, x2, y float64, class, text string) {
	s.add(`<path d="M%.1f,%.1fv10m0,-5H%.1fm0,-5v10" style="stroke: var(--soft); stroke-width: 1.5; fill: none"/>`, x1,
		y-5, x2)
	s.text((x1+x2)/2, y+18, "middle", class, text)
}

// svg is the finished picture.
func (s *scene) svg() []byte {
	var b bytes.Buffer
	fmt.Fprintf(&b, `<svg xmlns="http://www.w3.org/2000/svg" width="%d" height="%d" viewBox="0 0 %[1]d %[2]d" role="img" aria-label="%s">
<style>%s</style>
  <rect x="0.5" y="0.5" width="%d" height="%d" rx="6" style="fill: var(--ground); stroke: var(--line)"/>
`, width, s.height, html.EscapeString(s.name), style, width-1, s.height-1)
	b.Write(s.body.Bytes())
	b.WriteString("</svg>\n")
	return b.Bytes()
}
