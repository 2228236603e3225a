package main

import (
	"cmp"
	"context"
	"errors"
	"fmt"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/dynamodb"
	"github.com/spf13/cobra"

	"github.com/dynalock/dynalock/dynalock"
)

func (a *app) tableCommand() *cobra.Command {
	cmd := &cobra.Command{
		Use:   "table",
		Short: "Create or check the table",
		RunE:  needsCommand,
	}
	cmd.AddCommand(a.tableCreateCommand(), a.tableCheckCommand())
	return cmd
}

func (a *app) tableCreateCommand() *cobra.Command {
	var ttl, protect bool
	cmd := &cobra.Command{
		Use:   "create",
		Short: "Create the table with on-demand billing, and wait until it can be used",
		Long: `Create the table with on-demand billing, and wait until it can be used. A table that exists and fits is success.
A table that does not fit, or is not protected although the flags ask for it, is left as it is (exit code 78).`,
		Args: noArgs,
		RunE: a.do(func(ctx context.Context, _ []string) error {
			table, err := a.tableName()
			if err != nil {
				return err
			}
			if err := a.checkKeyNames(table); err != nil {
				return err
			}
			db, err := a.connect(ctx)
			if err != nil {
				return err
			}
			ctx, cancel := a.bounded(ctx)
			defer cancel()
			err = dynalock.CreateTable(ctx, db, table, a.tableOptions, func(o *dynalock.TableOptions) {
				o.TimeToLive, o.DeletionProtection = ttl, protect
			})
			if errors.Is(err, dynalock.ErrInvalid) { // the options are good: it is the table
				return &exitError{exitUnfit, cmp.Or(errors.Unwrap(err), err)}
			}
			if err == nil && protect {
				err = checkProtection(ctx, db, table)
			}
			if err != nil {
				return err
			}
			if a.output == formatJSON {
				return writeJSON(a.out, map[string]string{"table": table, "status": "ACTIVE"})
			}
			_, err = fmt.Fprintf(a.out, "table %q is ready\n", clean(table))
			return err
		}),
	}
	cmd.Flags().BoolVar(&ttl, "ttl", false, `enable DynamoDB's TTL on the attribute "ttl", for clients with a retention`)
	cmd.Flags().BoolVar(&protect, "deletion-protection", false,
		"protect the new table against deletion; a table that exists has to be protected already")
	return cmd
}

// checkProtection refuses a table that existed and is not protected against deletion. Nothing has changed it.
func checkProtection(ctx context.Context, db *dynamodb.Client, table string) error {
	out, err := db.DescribeTable(ctx, &dynamodb.DescribeTableInput{TableName: &table})
	if err != nil {
		return &dynalock.StoreError{Op: "describe table", Table: table, Err: err}
	}
	if !aws.ToBool(out.Table.DeletionProtectionEnabled) {
		return &exitError{
			exitUnfit,
			fmt.Errorf("table %q exists and is not protected against deletion; to protect it: aws dynamodb update-table --table-name %s --deletion-protection-enabled", table, table),
		}
	}
	return nil
}

// checkKeyNames has the library look at the names of the key attributes before DynamoDB is asked.
func (a *app) checkKeyNames(table string) error {
	_, err := dynalock.New(nopDB{}, table, func(o *dynalock.Options) {
		o.PartitionKey, o.SortKey = a.partitionKey, a.sortKey
		if a.sortKey != "" {
			o.SortValue = "any"
		}
	})
	return err
}

// nopDB stands for a client that is not called.
type nopDB struct{ dynalock.DynamoDB }

// findingJSON is a finding in the JSON output.
type findingJSON struct {
	Severity string `json:"severity"`
	Problem  string `json:"problem"`
	Remedy   string `json:"remedy"`
}

func (a *app) tableCheckCommand() *cobra.Command {
	var ttl bool
	cmd := &cobra.Command{
		Use:   "check",
		Short: "Show what is wrong with the table, and what to do about it",
		Long: `Show what is wrong, or worth knowing, about the table, and what to do about it. A finding is

  fatal     locks cannot work on this table, or not safely (exit code 78)
  warning   locks work, but something costs money or is at risk
  info      locks work; worth knowing`,
		Args: noArgs,
		RunE: a.do(func(ctx context.Context, _ []string) error {
			table, err := a.tableName()
			if err != nil {
				return err
			}
			db, err := a.connect(ctx)
			if err != nil {
				return err
			}
			ctx, cancel := a.bounded(ctx)
			defer cancel()
			found, err := dynalock.CheckTable(ctx, db, table, a.tableOptions,
				func(o *dynalock.TableOptions) { o.TimeToLive = ttl })
			if err != nil {
				return err
			}
			if err := a.showFindings(table, found); err != nil {
				return err
			}
			fatal := 0
			for _, f := range found {
				if f.Severity == dynalock.Fatal {
					fatal++
				}
			}
			if fatal > 0 {
				return &exitError{
					exitUnfit,
					fmt.Errorf("table %q does not fit: %d of %d findings are fatal", table, fatal, len(found)),
				}
			}
			return nil
		}),
	}
	cmd.Flags().BoolVar(&ttl, "ttl", false, "clients have a retention: expect DynamoDB's TTL to be enabled")
	return cmd
}

func (a *app) showFindings(table string, found []dynalock.Finding) error {
	if a.output == formatJSON {
		list := make([]findingJSON, len(found))
		for i, f := range found {
			list[i] = findingJSON{f.Severity.String(), f.Problem, f.Remedy}
		}
		return writeJSON(a.out, map[string]any{"table": table, "findings": list})
	}
	if len(found) == 0 {
		_, err := fmt.Fprintf(a.out, "table %q fits, and there are no findings\n", clean(table))
		return err
	}
	rows := [][]string{{"SEVERITY", "PROBLEM", "REMEDY"}}
	for _, f := range found {
		rows = append(rows, []string{f.Severity.String(), f.Problem, f.Remedy})
	}
	return writeTable(a.out, rows)
}
