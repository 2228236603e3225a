package main

import (
	"testing"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"
)

// everyCommand calls f for each command of the tool.
func everyCommand(f func(cmd *cobra.Command)) {
	var walk func(*cobra.Command)
	walk = func(cmd *cobra.Command) {
		cmd.InitDefaultHelpFlag()
		f(cmd)
		for _, c := range cmd.Commands() {
			walk(c)
		}
	}
	root := newApp(nil, nil, nil).rootCommand()
	root.InitDefaultVersionFlag()
	walk(root)
}

func TestEveryFlagThatIsNoTextSaysWhatItMayBe(t *testing.T) {
	t.Parallel()
	flags := 0
	everyCommand(func(cmd *cobra.Command) {
		cmd.LocalFlags().VisitAll(func(f *pflag.Flag) {
			flags++
			if f.Value.Type() != "string" && allowed(f) == "a text" {
				t.Errorf("%s --%s: nothing is said of a %s", cmd.CommandPath(), f.Name, f.Value.Type())
			}
		})
	})
	if flags < 40 {
		t.Errorf("only %d flags were found", flags)
	}
}
