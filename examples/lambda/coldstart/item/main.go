// Item is a function that reads and writes items and holds no lock: what coldstart compares with.
package main

import (
	"context"
	"log"
	"os"

	"github.com/aws/aws-lambda-go/lambda"
	"github.com/aws/aws-sdk-go-v2/config"
	"github.com/aws/aws-sdk-go-v2/service/dynamodb"
	"github.com/aws/aws-sdk-go-v2/service/dynamodb/types"
)

func main() {
	cfg, err := config.LoadDefaultConfig(context.Background())
	if err != nil {
		log.Fatal(err)
	}
	db, table := dynamodb.NewFromConfig(cfg), os.Getenv("DYNALOCK_TABLE")
	lambda.Start(func(ctx context.Context) error {
		key := map[string]types.AttributeValue{"key": &types.AttributeValueMemberS{Value: "report"}}
		if _, err := db.GetItem(ctx, &dynamodb.GetItemInput{TableName: &table, Key: key}); err != nil {
			return err
		}
		_, err := db.UpdateItem(ctx, &dynamodb.UpdateItemInput{TableName: &table, Key: key})
		return err
	})
}
