"""The flights pipeline as pure functions, frame in and frame out. No Dagster here.

departures, weather_hours (from source) -> legs -> route_delays -> carrier_scorecard
"""
