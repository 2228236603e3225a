package heartbeat

import (
	"errors"
	"strings"
	"testing"
	"time"
)

func TestTheReasonOfALossSaysWhatBecameOfTheLastAttempt(t *testing.T) {
	const hangs = "the attempt to renew it has not returned"
	loss := func(w *world, k *kept) string {
		w.Helper()
		w.sleepUntil(trust)
		k.wantLost(ErrDeadline, trust)
		return k.ended[0].Error()
	}
	t.Run("there was none", func(t *testing.T) {
		inBubble(t, func(w *world) {
			if text := loss(w, w.add(nil, static)); text != ErrDeadline.Error() {
				w.Errorf("the loss of a static lease says %q, want %q", text, ErrDeadline)
			}
		})
	})
	t.Run("it hangs", func(t *testing.T) {
		inBubble(t, func(w *world) {
			release := make(chan struct{})
			defer close(release)
			if text := loss(w, w.add(deaf(release))); !strings.Contains(text, hangs) {
				w.Errorf("the loss says %q, want that %s", text, hangs)
			}
		})
	})
	t.Run("it failed", func(t *testing.T) {
		inBubble(t, func(w *world) {
			k := w.add(fails)
			text := loss(w, k)
			if !strings.Contains(text, errStore.Error()) || strings.Contains(text, hangs) || !errors.Is(k.ended[0], errStore) {
				w.Errorf("the loss says %q, want %q", text, errStore)
			}
		})
	})
}

func TestTheLimitsOfAConfigAreAllowedAndWhatIsBeyondIsNot(t *testing.T) {
	t.Parallel()
	for field, cfgs := range map[string]struct{ good, bad []func(*Config) }{
		"Trust": {
			[]func(*Config){func(c *Config) { c.Trust, c.Period = 1, 0 }, func(c *Config) { c.Trust = longestTrust }},
			[]func(*Config){func(c *Config) { c.Trust, c.Period = 0, 0 }, func(c *Config) { c.Trust = longestTrust + 1 }},
		},
		"Period": {
			[]func(*Config){
				func(c *Config) { c.Period = 0 }, func(c *Config) { c.Period = 1 }, func(c *Config) { c.Period = c.Trust - 1 },
			},
			[]func(*Config){func(c *Config) { c.Period = -1 }, func(c *Config) { c.Period = c.Trust }},
		},
		"Renew": {
			[]func(*Config){func(c *Config) { c.Period, c.Renew = 0, nil }},
			[]func(*Config){func(c *Config) { c.Period, c.Renew = 1, nil }},
		},
		"AttemptTimeout": {
			[]func(*Config){func(c *Config) { c.AttemptTimeout = 0 }, func(c *Config) { c.AttemptTimeout = 1 }},
			[]func(*Config){func(c *Config) { c.AttemptTimeout = -1 }},
		},
		"Limit": {
			[]func(*Config){func(c *Config) { c.Limit = 0 }, func(c *Config) { c.Limit = time.Hour }},
			[]func(*Config){func(c *Config) { c.Limit = -1 }},
		},
	} {
		try := func(set func(*Config)) error {
			c := Config{Period: period, Trust: trust, Renew: fails}
			set(&c)
			return c.validate()
		}
		for i, set := range cfgs.good {
			if err := try(set); err != nil {
				t.Errorf("%s, allowed value %d: %v", field, i, err)
			}
		}
		for i, set := range cfgs.bad {
			if err := try(set); err == nil || !strings.Contains(err.Error(), "Config."+field+" is") {
				t.Errorf("%s, value %d that is not allowed: %v", field, i, err)
			}
		}
	}
}
