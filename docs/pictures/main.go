// Command pictures draws the pictures of the documentation, as SVG that can be read on a light and on a dark page:
//
//	go -C docs/pictures run .
//
// Three of them are plots, of figures that runs have counted (held.csv, waits.json) and of prices; two are time lines,
// of the library's defaults and of a run of the quickstart (quickstart.txt). The text files say which command made
// them; bench compare -o json writes waits.json.
package main

import (
	"fmt"
	"os"
)

func main() {
	all, err := pictures()
	if err != nil {
		fmt.Fprintln(os.Stderr, "pictures:", err)
		os.Exit(1)
	}
	for name, svg := range all {
		if err := os.WriteFile(name, svg, 0o644); err != nil {
			fmt.Fprintln(os.Stderr, "pictures:", err)
			os.Exit(1)
		}
	}
}

// pictures are all pictures, by the names of their files.
func pictures() (map[string][]byte, error) {
	story, err := readStory("quickstart.txt")
	if err != nil {
		return nil, err
	}
	runs, err := readRuns("held.csv")
	if err != nil {
		return nil, err
	}
	lost, err := lostPlot(runs)
	if err != nil {
		return nil, err
	}
	costs, err := costPlot()
	if err != nil {
		return nil, err
	}
	subtitle, waited, err := readWaits("waits.json")
	if err != nil {
		return nil, err
	}
	waits, err := waitsPlot(subtitle, waited)
	if err != nil {
		return nil, err
	}
	return map[string][]byte{
		"waits.svg": waits,
		"lease.svg": leaseLine(defaults).svg(),
		"stale.svg": staleLine(story).svg(),
		"lost.svg":  lost,
		"cost.svg":  costs,
	}, nil
}
