"""LangGraph's SqliteStore."""

import langgraph_stores
import workload

if __name__ == "__main__":
    workload.run(langgraph_stores.Sync)
